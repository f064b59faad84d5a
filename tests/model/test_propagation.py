"""Message passing against a loop over single nodes and edges, written from Eq. 3, 4, 12 to 15."""

from collections.abc import Iterator
from random import Random

import pytest
import torch
from torch import Tensor

from ghn_pipeline.model import compiled
from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network
from ghn_pipeline.model.propagation import updates
from ghn_pipeline.spaces.classification import INPUTS, Classification

OPERATIONS = ("identity", "conv_1x1", "sep_conv_3x3", "max_pool_3x3")
SPACE = Classification(OPERATIONS, 2, 2, 4, (2,), 1, 10)
SCHEMES = ("forward-backward", "synchronous")
#: Table 5: (SP, PE)
STACKINGS = ((False, False), (False, True), (True, True))


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Propagate by the operator, and by its definition."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "LIBRARIES", {})
    elif not compiled.LIBRARIES:
        pytest.skip("nothing was compiled")


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def tolerance(request: pytest.FixtureRequest) -> Iterator[float]:
    """Make everything of one precision; the value is how far rounding may go in it."""
    torch.set_default_dtype(request.param)
    yield 1e-5 if request.param == torch.float32 else 1e-10
    torch.set_default_dtype(torch.float32)


def random_block(rng: Random, nodes: int) -> Block:
    """Any graph: up to three inputs, and input nodes that nothing reads."""
    drawn = list(INPUTS)
    for v in range(2, 2 + nodes):
        inputs = rng.sample(range(v), rng.randint(1, min(3, v)))
        drawn.append(Node(rng.choice(OPERATIONS), tuple(inputs)))
    return Block(tuple(drawn))


def random_networks(seed: int, sizes: tuple[int, ...]) -> list[Network]:
    rng = Random(seed)
    return [Network(SPACE.modules(random_block(rng, n)), resolution=4) for n in sizes]


def make(passes: int, scheme: str, share: bool, pass_embeddings: bool) -> GHN:
    torch.manual_seed(passes)
    return GHN(
        SPACE.node_types,
        random_networks(seed=0, sizes=(1,)),  # propagation alone: nothing is generated
        passes=passes,
        scheme=scheme,
        share_parameters=share,
        pass_embeddings=pass_embeddings,
        size=5,
        message_hidden=7,
        hidden=3,
    )


#: The parameters of G for a module.
G = tuple[Tensor, Tensor, Tensor]


def affine(x: Tensor, matrix: Tensor) -> Tensor:
    """A matrix times x, and a bias, its last row."""
    return matrix[:-1].T @ x + matrix[-1]


def slow_message(g: G, h: Tensor) -> Tensor:
    """M: an MLP of two layers."""
    state, second, _ = g
    return affine(affine(h, state[:, 3 * len(h) :]).clamp(min=0), second)


def slow_update(g: G, h: Tensor, m: Tensor) -> Tensor:
    """U: a gated recurrent unit (Cho et al. 2014), the message its input."""
    state, _, inputs = g
    m_r, m_z, m_n = affine(m, inputs).chunk(3)
    h_r, h_z, h_n = affine(h, state[:, : 3 * len(h)]).chunk(3)
    r, z = torch.sigmoid(m_r + h_r), torch.sigmoid(m_z + h_z)
    return (1 - z) * torch.tanh(m_n + r * h_n) + z * h


def slow_module(g: G, block: Block, h: list[Tensor], passed: Tensor, ghn: GHN) -> list[Tensor]:
    V = len(block.nodes)
    edges = [(u, v) for v in range(V) for u in block.nodes[v].inputs]

    def received(v: int, forth: bool, back: bool) -> Tensor:
        m = torch.zeros_like(passed)
        for u, w in edges:
            if forth and w == v:
                m = m + slow_message(g, h[u])
            if back and u == v:
                m = m + slow_message(g, h[w])
        # Eq. 14: what comes from the module before, "to the input node ... as a message"
        return m + passed if forth and not block.nodes[v].inputs else m

    for _ in range(ghn.passes):
        if ghn.scheme == "synchronous":
            h = [slow_update(g, h[v], received(v, True, True)) for v in range(V)]
            continue
        for t in range(1, 2 * V):  # Eq. 15, which counts nodes from 1
            v = (t if t <= V else 2 * V - t) - 1
            h[v] = slow_update(g, h[v], received(v, t <= V, t > V))
    return h


def slow_embed(ghn: GHN, network: Network) -> list[Tensor]:
    """Embeddings [V, D] of each module of one network."""
    passed = torch.zeros(ghn.embedding.embedding_dim)  # Eq. 12
    embeddings = []
    for m, module in enumerate(network.modules):
        g = ghn.propagation
        p = m if len(g.state) > 1 else 0
        # of several GHNs, each has its own rows of the table
        rows = [p * len(ghn.types) + ghn.types[node.op] for node in module.block.nodes]
        h = [ghn.embedding.weight[row] for row in rows]
        own = g.state[p], g.second[p], g.inputs[p]
        embeddings.append(torch.stack(slow_module(own, module.block, h, passed, ghn)))
        if ghn.pass_embeddings:
            passed = sum(embeddings[-1].unbind()) / len(module.block.nodes)  # Eq. 13
    return embeddings


def gradients(ghn: GHN, embeddings: list[Tensor]) -> dict[str, Tensor]:
    """Of a sum with random coefficients, so that no two numbers can stand for each other."""
    generator = torch.Generator().manual_seed(0)
    total = sum((h * torch.randn(h.shape, generator=generator)).sum() for h in embeddings)
    ghn.zero_grad()
    total.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in ghn.named_parameters()}


@pytest.mark.parametrize(("share", "pass_embeddings"), STACKINGS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("passes", range(1, 6))
def test_equals_the_slow_loop(
    passes: int, scheme: str, share: bool, pass_embeddings: bool, tolerance: float
) -> None:
    ghn = make(passes, scheme, share, pass_embeddings)
    networks = random_networks(seed=passes, sizes=(4, 2))  # the second is padded
    together, starts = ghn.embed(networks)
    fast = [
        together[b, start : start + len(module.block.nodes)]
        for b, network in enumerate(networks)
        for start, module in zip(starts, network.modules, strict=False)
    ]
    slow = [h for network in networks for h in slow_embed(ghn, network)]
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    ours_by_name, theirs_by_name = gradients(ghn, fast), gradients(ghn, slow)
    for name, theirs in theirs_by_name.items():
        # relative to the largest of a tensor: single numbers may cancel to almost nothing
        near = tolerance * float(theirs.abs().max())
        torch.testing.assert_close(
            ours_by_name[name],
            theirs,
            rtol=tolerance,
            atol=near,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_padding_changes_nothing(scheme: str, tolerance: float) -> None:
    ghn = make(3, scheme, True, True)
    networks = random_networks(seed=9, sizes=(1, 9, 17, 4))
    together, starts = ghn.embed(networks)
    for b, network in enumerate(networks):
        alone, own = ghn.embed([network])
        for m, module in enumerate(network.modules):
            V = len(module.block.nodes)
            ours, theirs = together[b, starts[m] : starts[m] + V], alone[0, own[m] : own[m] + V]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_a_pass_makes_2v_minus_1_updates() -> None:
    rng = Random(0)
    sizes = (1, 3, 8, 17)
    blocks = [random_block(rng, n) for n in sizes]
    V = max(len(block.nodes) for block in blocks)
    updated = torch.cat([update.nodes for update in updates(blocks, synchronous=False)]) // V
    assert updated.bincount().tolist() == [2 * (2 + n) - 1 for n in sizes]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_forward_backward_reaches_the_end_of_a_chain_in_one_pass(scheme: str) -> None:
    # section 4.4: the synchronous scheme needs as many steps as the chain is long
    chain = Block((*INPUTS, *(Node("identity", (v,)) for v in range(1, 5))))
    ends = []
    for first in ("input_1", "input_2"):
        nodes = (Node("input_1"), Node(first), *chain.nodes[2:])
        network = Network(SPACE.modules(Block(nodes)), resolution=4)
        h, starts = make(1, scheme, True, False).embed([network])
        ends.append(h[0, starts[2] - 1])
    assert torch.equal(*ends) == (scheme == "synchronous")
