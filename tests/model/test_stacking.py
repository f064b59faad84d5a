"""The GHNs of Table 5: "individual" and "stacked" ones, each module with a GHN of its own."""

import math
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
import torch
from test_propagation import slow_module
from torch import Tensor

from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.network import Network
from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification, ClassificationSettings
from ghn_pipeline.spaces.nasbench201 import EDGES, NODES, NasBench201
from ghn_pipeline.spaces.space import Space

NAMES = ClassificationSettings.known
# two reductions and a wide stem: modules differ in their shapes
CLASSIFICATION = Classification(NAMES, 2, 3, 4, (2, 3), 3, 10)
SPACES: dict[str, Space] = {
    "classification": CLASSIFICATION,
    "nasbench201": NasBench201(EDGES, 3, 4, (2,), 1, 10),
    "anytime": Anytime(("dense_conv_1x1", "dense_max_pool_3x3"), 2, 3, 3, 4, (2, 3), 1, 10),
}
D, S, H = 6, 5, 7  # of an embedding, of the hidden layer of M, and of that of H


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]


def made(
    space: Space, pass_embeddings: bool, *, share: bool = False, positions: bool = True
) -> GHN:
    torch.manual_seed(0)
    return GHN(
        space.node_types,
        [Network(space.modules(block), 1) for block in space.examples(1)],
        passes=2,
        scheme="forward-backward",
        share_parameters=share,
        pass_embeddings=pass_embeddings,
        size=D,
        message_hidden=S,
        hidden=H,
        positions=positions,
        scales=space.scales,
        exits=space.exits > 0,
    )


def drawn(space: Space, seed: int, nodes: int = NODES) -> Network:
    return Network(space.modules(space.sample(Random(seed), nodes)), 8)


def own_parts(ghn: GHN, m: int) -> dict[str, list[int]]:
    """Return for the parameters of module m's own GHN their rows, by the parameters' names."""
    M, rows = ghn.modules_of_network, {}
    for name, parameter in ghn.named_parameters():
        if name.startswith("hypernetworks."):
            count = len(parameter) if name.split(".")[1] == str(m) else 0
            rows[name] = list(range(count))
        else:  # those of all modules are one tensor
            count = len(parameter) // M
            rows[name] = list(range(m * count, (m + 1) * count))
    return rows


def random_loss(weights: dict[str, Tensor], names: list[str]) -> Tensor:
    """A sum with random coefficients, so that no two numbers can stand for each other."""
    generator = torch.Generator().manual_seed(0)
    return sum(
        (weights[n] * torch.randn(weights[n].shape, generator=generator)).sum() for n in names
    )


def of_module(network: Network, m: int) -> list[str]:
    return [spec.name for spec in network.specs if spec.place[0] == m]


def reached(ghn: GHN, network: Network, m: int) -> set[int]:
    """Return the modules whose GHNs a loss of the weights of module m has gradients for."""
    ghn.zero_grad()
    random_loss(ghn([network])[0], of_module(network, m)).backward()
    gradients = {name: p.grad for name, p in ghn.named_parameters() if p.grad is not None}
    return {
        k
        for k in range(ghn.modules_of_network)
        for name, rows in own_parts(ghn, k).items()
        if name in gradients and gradients[name][rows].any()
    }


def weighted(network: Network) -> list[int]:
    """Return the modules that have weights; NAS-Bench-201's last batch norm has none."""
    return sorted({spec.place[0] for spec in network.specs})


# ---- individual: neither SP nor PE ---------------------------------------------------------------


@pytest.mark.parametrize("positions", [True, False])
def test_every_parameter_is_of_one_module(space: Space, positions: bool) -> None:
    ghn = made(space, False, positions=positions)
    for name, parameter in ghn.named_parameters():
        owned = [row for m in range(ghn.modules_of_network) for row in own_parts(ghn, m)[name]]
        assert sorted(owned) == list(range(len(parameter)))


@pytest.mark.parametrize("positions", [True, False])
def test_the_parameters_of_a_module_change_its_own_weights_alone(
    space: Space, positions: bool
) -> None:
    network = drawn(space, seed=1)
    for m in range(len(network.modules)):
        ghn = made(space, False, positions=positions)
        (before,) = ghn([network])
        with torch.no_grad():
            for name, rows in own_parts(ghn, m).items():
                changed = ghn.get_parameter(name)[rows]
                ghn.get_parameter(name)[rows] = changed + 0.3 * torch.randn(changed.shape)
        (after,) = ghn([network])
        assert {n for n in before if not torch.equal(before[n], after[n])} == {
            *of_module(network, m)
        }


def test_a_module_has_gradients_of_its_own_ghn_alone(space: Space) -> None:
    for seed in range(3):
        network = drawn(space, seed)
        ghn = made(space, False)
        for m in weighted(network):
            assert reached(ghn, network, m) == {m}


def test_individual_ghns_are_separate_single_ones(space: Space) -> None:
    """Each of M GHNs is a plain loop over its module alone."""
    ghn, network = made(space, False), drawn(space, seed=4)
    (weights,) = ghn([network])
    assert weights.keys() == {spec.name for spec in network.specs}
    for m, module in enumerate(network.modules):
        own = {n: ghn.get_parameter(n)[rows].detach() for n, rows in own_parts(ghn, m).items()}
        h = [
            own["embedding.weight"][space.node_types.index(node.op)]
            + own["positions.weight"][0]
            + (own["scales.weight"][space.scales.index(node.scale)] if len(space.scales) > 1 else 0)
            + (own["exits.weight"][int(node.exit)] if space.exits else 0)
            for node in module.block.nodes
        ]
        g = tuple(own[f"propagation.{name}"][0] for name in ("state", "second", "inputs"))
        h = slow_module(g, module.block, h, torch.zeros(D), ghn)
        for spec in (spec for spec in network.specs if spec.place[0] == m):
            child, layer = h[spec.place[1]], "node"
            if spec.reads is not None:
                source, u = spec.reads
                same = network.modules[source].block.nodes == module.block.nodes
                child, layer = torch.cat((h[u] if same else child, child)), "edge"
            path = f"hypernetworks.{m}"
            hidden = own[f"{path}.{layer}.weight"] @ child + own[f"{path}.{layer}.bias"]
            kernel = own[f"{path}.kernels.{spec.branch}"]
            whole = hidden.clamp(min=0) @ kernel[:-1] + kernel[-1]
            whole = whole.view(ghn.hypernetworks[m].shapes[spec.branch])
            for axis, size in enumerate(spec.shape):
                surplus = whole.shape[axis] - size
                whole = whole.narrow(axis, surplus // 2 if axis >= 2 else 0, size)
            expected = whole * math.sqrt(2 / spec.fan_in)
            torch.testing.assert_close(weights[spec.name], expected, rtol=1e-10, atol=1e-12)


# ---- stacked: PE without SP ----------------------------------------------------------------------


def test_passed_embeddings_have_gradients_of_all_ghns_before(space: Space) -> None:
    network = drawn(space, seed=1)
    ghn = made(space, True)
    for m in weighted(network):
        assert reached(ghn, network, m) == set(range(m + 1))


def test_the_hypernetwork_of_a_module_makes_its_own_weights_alone(space: Space) -> None:
    network = drawn(space, seed=1)
    ghn = made(space, True)
    for m in weighted(network):
        ghn.zero_grad()
        random_loss(ghn([network])[0], of_module(network, m)).backward()
        had = [
            k
            for k, h in enumerate(ghn.hypernetworks)
            if any(p.grad is not None for p in h.parameters())
        ]
        assert had == [m]


# ---- both ----------------------------------------------------------------------------------------


def shapes_by_hand() -> list[dict[str, tuple[int, ...]]]:
    """The largest weight of each branch in each module of `CLASSIFICATION`."""
    of_blocks = []
    # the stem has 3·4 channels, and the blocks 4, 8 and 16; a block reads the two before
    for C, widest in ((4, 12), (8, 12), (16, 16)):
        of_blocks.append(
            {
                "pointwise": (C, widest, 1, 1),
                "pointwise2": (C, C, 1, 1),
                "depthwise": (C, 1, 5, 5),
                "depthwise2": (C, 1, 5, 5),
                "row": (C, 1, 1, 7),
                "column": (C, 1, 7, 1),
            }
        )
    return [{"stem": (12, 3, 3, 3)}, *of_blocks, {"classifier": (10, 16), "bias": (10,)}]


@pytest.mark.parametrize("pass_embeddings", [True, False])
def test_parameters_are_the_sum_over_modules(pass_embeddings: bool) -> None:
    expected = 0
    for branches in shapes_by_hand():
        expected += (len(NAMES) + 4 + 1) * D  # 4 more types of nodes, and the position
        # section 5.1.1: M of two layers, U of three gates, each with two matrices and two biases
        expected += (D * S + S) + (S * D + D) + 3 * 2 * (D * D + D)
        expected += (D * H + H) + (2 * D * H + H)  # of a node, and of an edge
        expected += sum((H + 1) * math.prod(shape) for shape in branches.values())
    ghn = made(CLASSIFICATION, pass_embeddings)
    assert [h.shapes for h in ghn.hypernetworks] == shapes_by_hand()
    assert sum(p.numel() for p in ghn.parameters()) == expected


@pytest.mark.parametrize("share", [True, False])
def test_branches_are_as_large_as_the_largest_weight(space: Space, share: bool) -> None:
    ghn = made(space, True, share=share)
    largest: list[dict[str, tuple[int, ...]]] = [{} for _ in ghn.hypernetworks]
    for block in space.examples(NODES):
        for spec in Network(space.modules(block), 1).specs:
            shapes = largest[0 if share else spec.place[0]]
            known = shapes.get(spec.branch, spec.shape)
            shapes[spec.branch] = tuple(max(a, b) for a, b in zip(known, spec.shape, strict=True))
    assert [h.shapes for h in ghn.hypernetworks] == largest


@pytest.mark.parametrize("pass_embeddings", [True, False])
def test_together_equals_alone(space: Space, pass_embeddings: bool) -> None:
    ghn = made(space, pass_embeddings)
    sizes = (NODES,) * 3 if isinstance(space, NasBench201) else (2, 7, 4)
    networks = [drawn(space, seed, nodes) for seed, nodes in enumerate(sizes)]
    for network, together in zip(networks, ghn(networks), strict=True):
        assert {n: tuple(w.shape) for n, w in together.items()} == {
            spec.name: spec.shape for spec in network.specs
        }
        for name, weight in ghn([network])[0].items():
            torch.testing.assert_close(together[name], weight, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("pass_embeddings", [True, False])
def test_without_pe_no_weight_reads_an_embedding_of_another_module(
    space: Space, share: bool, pass_embeddings: bool
) -> None:
    ghn, network = made(space, pass_embeddings, share=share), drawn(space, seed=2)
    graphs = ghn.graphs([network])
    wanted = ghn.wanted([network], graphs)
    there = ghn.on_device([numbers for one in wanted for numbers in one.numbers])
    embeddings = ghn.embed([network])[0].detach().requires_grad_()
    (weights,) = ghn.generate(wanted, embeddings, there)
    reads = {}
    for m in weighted(network):
        loss = random_loss(weights, of_module(network, m))
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        starts = pairwise(graphs.starts)
        reads[m] = {k for k, (start, end) in enumerate(starts) if gradient[0, start:end].any()}
    ends: dict[int, set[int]] = {m: {m} for m in reads}
    for spec in network.specs:
        if pass_embeddings and spec.reads is not None:
            ends[spec.place[0]].add(spec.reads[0])
    assert reads == ends
    assert pass_embeddings == any(ends[m] != {m} for m in ends)
