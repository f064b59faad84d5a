"""Generated weights against H written out, and where their gradients go."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Spec, run
from ghn_pipeline.spaces.classification import INPUTS, Classification, ClassificationSettings

NAMES = tuple(ClassificationSettings.known)
# two reductions and a wide stem, so that every branch is cut to several widths
SPACE = Classification(NAMES, 2, 3, 4, (2, 3), 3, 10)
MODULES = 5
WITH_EVERY_OPERATION = Block(INPUTS + tuple(Node(op, (0, 1)) for op in NAMES))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(
    share: bool = True,
    pass_embeddings: bool = True,
    scheme: str = "forward-backward",
    positions: bool = False,
) -> GHN:
    torch.manual_seed(0)
    return GHN(
        SPACE.node_types,
        [network_of(WITH_EVERY_OPERATION)],
        passes=2,
        scheme=scheme,
        share_parameters=share,
        pass_embeddings=pass_embeddings,
        size=6,
        message_hidden=5,
        hidden=7,
        positions=positions,
    )


def network_of(block: Block) -> Network:
    return Network(SPACE.modules(block), resolution=8)


def random_networks(*sizes: int) -> list[Network]:
    rng = Random(sum(sizes))
    return [network_of(SPACE.sample(rng, nodes)) for nodes in sizes]


def loss_of(network: Network, weights: dict[str, Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    return F.cross_entropy(run(network, weights, images), torch.arange(6))


def written_out(ghn: GHN, network: Network, spec: Spec, embedded: list[Tensor]) -> Tensor:
    """H of section 5.1.1 and 7.2 for one weight, from the embeddings of its network."""
    m, v = spec.place
    h = ghn.hypernetworks[m if len(ghn.hypernetworks) > 1 else 0]
    child = embedded[m][v]
    if spec.reads is None:
        layer = h.node.weight @ child + h.node.bias
    else:
        source, u = spec.reads
        if ghn.pass_embeddings:
            parent = embedded[source][u]
        elif network.modules[source].block.nodes == network.modules[m].block.nodes:
            parent = embedded[m][u]
        else:
            parent = child
        layer = h.edge.weight @ torch.cat((parent, child)) + h.edge.bias
    kernel, bias = h.kernels[spec.branch].split([len(layer), 1])
    whole = (layer.clamp(min=0) @ kernel + bias).view(h.shapes[spec.branch])
    for axis, size in enumerate(spec.shape):
        surplus = whole.shape[axis] - size
        # leading channels; of a kernel as much is cut off on either side
        whole = whole.narrow(axis, surplus // 2 if axis >= 2 else 0, size)
    return whole * math.sqrt(2 / spec.fan_in)


@pytest.mark.parametrize("scheme", ["forward-backward", "synchronous"])
@pytest.mark.parametrize("pass_embeddings", [True, False])
@pytest.mark.parametrize("share", [True, False])
def test_each_weight_is_h_of_its_embedding(share: bool, pass_embeddings: bool, scheme: str) -> None:
    ghn = make(share, pass_embeddings, scheme)
    networks = [*random_networks(3, 7), network_of(WITH_EVERY_OPERATION)]
    embeddings, starts = ghn.embed(networks)
    for b, (network, weights) in enumerate(zip(networks, ghn(networks), strict=True)):
        embedded = [embeddings[b, start:] for start in starts]
        for spec in network.specs:
            theirs = written_out(ghn, network, spec, embedded)
            torch.testing.assert_close(weights[spec.name], theirs, rtol=1e-10, atol=1e-12)


def generated(ghn: GHN, branches: dict[str, dict[tuple[int, ...], int]]) -> Sequence[Tensor]:
    """Weights of a node's embedding, of fan-in 1."""
    count = sum(n for counts in branches.values() for n in counts.values())
    nothing, first = torch.empty(0, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    embedding = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    (hypernetwork,) = ghn.hypernetworks
    return hypernetwork(embedding, nothing, first, torch.ones(count), branches)


def test_a_smaller_kernel_is_the_centre_of_the_larger() -> None:
    ghn = make()
    shape = ghn.hypernetworks[0].shapes["depthwise"]
    assert shape == (16, 1, 5, 5)
    large, small, narrow = generated(
        ghn, {"depthwise": {shape: 1, (8, 1, 3, 3): 1, (8, 1, 5, 5): 1}}
    )
    torch.testing.assert_close(small, large[:8, :, 1:4, 1:4])
    torch.testing.assert_close(narrow, large[:8])


@pytest.mark.parametrize("shape", [(8, 1, 7, 7), (32, 1, 5, 5), (8, 1, 5)])
def test_what_does_not_fit_a_branch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        generated(make(), {"depthwise": {shape: 1}})


def test_every_spec_gets_a_tensor_of_its_shape() -> None:
    networks = [*random_networks(2, 5, 17), network_of(WITH_EVERY_OPERATION)]
    for network, weights in zip(networks, make()(networks), strict=True):
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        assert shapes == {spec.name: spec.shape for spec in network.specs}


def test_a_batch_equals_its_networks_alone() -> None:
    ghn = make()
    networks = random_networks(2, 9, 5, 17)
    for network, together in zip(networks, ghn(networks), strict=True):
        (alone,) = ghn([network])
        for name, weight in alone.items():
            torch.testing.assert_close(together[name], weight, rtol=1e-12, atol=1e-13)


def test_repeated_blocks_may_be_equal_or_the_same_object() -> None:
    # graphs of repeated blocks are built once; that must not depend on how they are stored
    network = random_networks(6)[0]
    copies = [replace(m, block=Block(m.block.nodes)) for m in network.modules]
    (once,), (twice,) = make()([network]), make()([Network(copies, resolution=8)])
    assert all(torch.equal(once[name], twice[name]) for name in once)


@pytest.mark.parametrize("op", NAMES)
def test_the_loss_reaches_every_parameter(op: str) -> None:
    ghn = make()
    network = network_of(Block((*INPUTS, Node(op, (0, 1)), Node(op, (0,)), Node(op, (2, 3)))))
    (weights,) = ghn([network])
    for weight in weights.values():
        weight.retain_grad()
    loss_of(network, weights).backward()

    for name, weight in weights.items():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
    used = {spec.branch for spec in network.specs}
    for name, parameter in ghn.named_parameters():
        path = name.split(".")
        if "kernels" in path and path[-1] not in used:
            assert parameter.grad is None, f"{name}: no weight of {op} comes from it"
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
    types = {node.op for module in network.modules for node in module.block.nodes}
    reached = ghn.embedding.weight.grad.any(1).tolist()  # type: ignore[union-attr]
    assert {op for op, i in ghn.types.items() if reached[i]} == types


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("pass_embeddings", [True, False])
def test_modules_hear_of_each_other_by_passed_embeddings_alone(
    share: bool, pass_embeddings: bool
) -> None:
    ghn = make(share, pass_embeddings)
    network = random_networks(6)[0]
    changed = list(network.modules)
    node = changed[2].block.nodes[4]
    other = next(op for op in NAMES if op != node.op)
    nodes = changed[2].block.nodes
    changed[2] = replace(changed[2], block=Block((*nodes[:4], replace(node, op=other), *nodes[5:])))
    before, starts = ghn.embed([network])
    after, _ = ghn.embed([Network(changed, resolution=8)])
    differs = [
        not torch.equal(before[0, start:end], after[0, start:end])
        for start, end in pairwise(starts)
    ]
    # Eq. 14 passes embeddings onwards, never back
    assert differs == [False, False, True, pass_embeddings, pass_embeddings]


# ---- order of nodes ------------------------------------------------------------------------------

#: Six nodes that read neighbours on one ring of six, or on two of three: colour refinement cannot
#: tell these apart.
RINGS = [
    tuple(Node("conv_1x1", (2 + i, 2 + after(i))) for i in range(6))
    for after in (lambda i: (i + 1) % 6, lambda i: i // 3 * 3 + (i + 1) % 3)
]
TWINS = (Node("sep_conv_3x3", (0, 1)),) * 3 + (Node("identity", (2,)), Node("identity", (3,)))


def to_relist() -> list[Block]:
    rng = Random(0)
    uppers = (Node("max_pool_3x3", (0, 1)),) * 6
    return [
        *(SPACE.sample(rng, nodes) for nodes in (2, 3, 5, 7, 17, 17)),
        Block(INPUTS + TWINS),
        *(Block(INPUTS + uppers + ring) for ring in RINGS),
    ]


def relisted(rng: Random, block: Block) -> Block:
    """The same graph with its nodes in a random topological order, and each node's inputs too."""
    new, order = {0: 0, 1: 1}, [*INPUTS]
    while len(order) < len(block.nodes):
        ready = [
            v for v, n in enumerate(block.nodes) if v not in new and new.keys() >= set(n.inputs)
        ]
        v = rng.choice(ready)
        new[v] = len(order)
        inputs = [new[u] for u in block.nodes[v].inputs]
        order.append(Node(block.nodes[v].op, tuple(rng.sample(inputs, len(inputs)))))
    return Block(tuple(order))


def as_listed(block: Block) -> Network:
    """The network that keeps the listing of its block."""
    modules = [replace(m, block=block if m.number else m.block) for m in SPACE.modules(block)]
    return Network(modules, resolution=8)


@pytest.mark.parametrize("scheme", ["forward-backward", "synchronous"])
def test_weights_and_scores_do_not_depend_on_the_listing(scheme: str) -> None:
    ghn, rng = make(scheme=scheme), Random(1)
    kept = set()
    for block in to_relist():
        network = network_of(block)
        (weights,) = ghn([network])
        loss = loss_of(network, weights)
        for _ in range(3):
            listing = relisted(rng, block)
            again, (same,) = network_of(listing), ghn([network_of(listing)])
            assert same.keys() == weights.keys()
            assert all(torch.equal(same[name], weight) for name, weight in weights.items())
            assert torch.equal(loss_of(again, same), loss)
            own = as_listed(listing)
            kept.add(bool((loss_of(own, ghn([own])[0]) - loss).abs() > 1e-9))
    # the synchronous scheme knows no last node
    assert kept == ({True, False} if scheme == "forward-backward" else {False})


# ---- positions -----------------------------------------------------------------------------------

#: With blocks that differ in nothing but their place.
EVEN = replace(SPACE, reductions=())


def by_module(network: Network, embeddings: Tensor, starts: Sequence[int]) -> list[Tensor]:
    """The embeddings of each module of the only network."""
    return [embeddings[0, start:end] for start, end in pairwise(starts)]


def own_weights(network: Network, weights: dict[str, Tensor], m: int) -> list[Tensor]:
    """Weights of module m that neither belong to nor read its input nodes."""
    specs = [s for s in network.specs if s.place[0] == m and s.place[1] >= len(INPUTS)]
    return [weights[s.name] for s in specs if s.reads is None or s.reads[1] >= len(INPUTS)]


@pytest.mark.parametrize("positions", [True, False])
def test_places_alone_tell_the_same_blocks_apart_where_nothing_is_passed(positions: bool) -> None:
    ghn = make(pass_embeddings=False, positions=positions)
    network = Network(EVEN.modules(SPACE.sample(Random(2), 6)), resolution=8)
    found = by_module(network, *ghn.embed([network]))
    (weights,) = ghn([network])
    for one, other in combinations((1, 2, 3), 2):
        assert torch.equal(found[one], found[other]) != positions
        pairs = zip(*(own_weights(network, weights, m) for m in (one, other)), strict=True)
        alike = [torch.allclose(a, b, rtol=1e-10) for a, b in pairs]
        assert len(alike) > 3
        assert set(alike) == {not positions}


@pytest.mark.parametrize("share", [True, False])
def test_a_position_is_added_to_what_the_operations_begin_with(share: bool) -> None:
    ghn, plain = make(share, False, positions=True), make(share, False)
    network = random_networks(6)[0]
    found = by_module(network, *ghn.embed([network]))
    state = {k: v.clone() for k, v in ghn.state_dict().items() if k != "positions.weight"}
    positions, operations = ghn.state_dict()["positions.weight"], state["embedding.weight"]
    assert positions.shape == (MODULES, 6)
    for m in range(MODULES):
        # to a GHN without positions, as if all operations were others
        plain.load_state_dict({**state, "embedding.weight": operations + positions[m]})
        expected = by_module(network, *plain.embed([network]))[m]
        torch.testing.assert_close(found[m], expected, rtol=1e-10, atol=1e-12)


def test_the_loss_reaches_every_position() -> None:
    ghn, network = make(positions=True), random_networks(6)[0]
    loss_of(network, ghn([network])[0]).backward()
    assert ghn.positions is not None and ghn.positions.weight.grad is not None
    assert ghn.positions.weight.grad.any(1).all()


@pytest.mark.parametrize("blocks", [2, 4])
def test_another_number_of_modules_is_refused(blocks: int) -> None:
    other = replace(SPACE, blocks=blocks, reductions=(2,))
    network = Network(other.modules(WITH_EVERY_OPERATION), resolution=8)
    with pytest.raises(ValueError, match="5 modules"):
        make()([network_of(WITH_EVERY_OPERATION), network])
