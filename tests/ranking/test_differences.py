"""Differences between consecutive blocks against a loop over single numbers, and by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from random import Random

import pytest
import torch
from torch import Tensor

from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.differences import difference_of_blocks
from ghn_pipeline.spaces.classification import INPUTS, Classification, ClassificationSettings
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201

SPACE = Classification(ClassificationSettings.known, 2, 6, 4, (3, 4), 1, 10)
CELLS = NasBench201(EDGES, 6, 4, (3, 5), 1, 10)
#: Two leaves, and a weight of each kind: of a node, of an edge, of two branches.
BLOCK = Block((*INPUTS, Node("sep_conv_3x3", (0, 1)), Node("conv_1x1", (0,))))


def random_weights(network: Network, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        spec.name: torch.randn(spec.shape, generator=generator, dtype=torch.float64)
        for spec in network.specs
    }


def filled(network: Network, value: Callable[[int], float]) -> dict[str, Tensor]:
    """Weights that all have the value of their module."""
    return {s.name: torch.full(s.shape, value(s.place[0])) for s in network.specs}


def renamed(name: str, module: int) -> str:
    """The name that a weight would have if its module and all others stood at other places."""
    parts = name.split("/")
    moved = module - int(parts[0])
    for i in (0, 4):
        if i < len(parts):
            parts[i] = f"{int(parts[i]) + moved:02d}"
    return "/".join(parts)


def by_loop(network: Network, weights: dict[str, Tensor]) -> list[float]:
    """The value of each pair, number by number."""
    found = []
    modules, fan_in = network.modules, {spec.name: spec.fan_in for spec in network.specs}
    for m in range(len(modules)):
        for n in range(len(modules)):
            if not modules[m].number or modules[n].number != modules[m].number + 1:
                continue
            apart = size = 0.0
            for name, w in weights.items():
                other = weights.get(renamed(name, n))
                if int(name[:2]) != m or other is None:
                    continue
                scale = math.sqrt(fan_in[renamed(name, n)] / fan_in[name])
                for at in product(*map(range, w.shape)):
                    if all(i < length for i, length in zip(at, other.shape, strict=True)):
                        a, b = float(w[at]), float(other[at]) * scale
                        apart += (b - a) ** 2
                        size += a**2
            if size:
                found.append(math.sqrt(apart / size))
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("space", [SPACE, CELLS], ids=["classification", "nasbench201"])
def test_equals_the_slow_loop(space: Classification | NasBench201, seed: int) -> None:
    cell = Cell.of_key("123423")
    block = cell if isinstance(space, NasBench201) else space.sample(Random(seed), 4)
    network = Network(space.modules(block), 8)
    weights = random_weights(network, seed)
    expected = by_loop(network, weights)
    assert len(expected) == 5
    assert difference_of_blocks(network, weights) == pytest.approx(sum(expected) / 5, rel=1e-12)


def test_by_hand() -> None:
    network = Network(replace(SPACE, reductions=()).modules(BLOCK), 8)
    # modules 0 to 7 are the stem, blocks 1 to 6 and the classifier
    values = [9.0, 1.0, 3.0, 4.0, 2.0, 3.0, 6.0, 9.0]
    expected = (2 + 1 / 3 + 2 / 4 + 1 / 2 + 1) / 5
    assert difference_of_blocks(network, filled(network, values.__getitem__)) == pytest.approx(
        expected, rel=1e-6
    )


def test_equal_blocks_do_not_differ() -> None:
    network = Network(replace(SPACE, reductions=()).modules(BLOCK), 8)
    assert difference_of_blocks(network, filled(network, lambda m: 5.0)) == 0


def test_a_ghn_without_passed_embeddings_makes_all_blocks_alike_whatever_their_channels() -> None:
    """Bottlenecks read other modules, so the test compares weights of nodes alone."""
    ghn = GHN(
        SPACE.node_types,
        [Network(SPACE.modules(b), 8) for b in SPACE.examples(1)],
        passes=1,
        scheme="forward-backward",
        share_parameters=True,
        pass_embeddings=False,
        size=8,
        message_hidden=8,
        hidden=8,
    )
    network = Network(SPACE.modules(BLOCK), 8)
    with torch.no_grad():
        weights = ghn([network])[0]
    inner = {spec.name: spec for spec in network.specs if not spec.reads}
    network.specs[:] = list(inner.values())
    assert difference_of_blocks(network, weights) == pytest.approx(0, abs=1e-6)


def test_bottlenecks_count_where_both_blocks_read_the_same_leaves() -> None:
    space = replace(SPACE, reductions=())
    network = Network(space.modules(BLOCK), 8)
    weights = filled(network, lambda m: 1.0)
    changed = weights | {n: 2 * w for n, w in weights.items() if n.startswith("05/00/")}
    # only the bottleneck of block 5 over block 4 was doubled
    bottleneck = sum(w.numel() for n, w in weights.items() if n.startswith("05/00/"))
    whole = sum(s.size for s in network.specs if s.place[0] == 5)
    one, other = math.sqrt(bottleneck / whole), math.sqrt(bottleneck / (whole + 3 * bottleneck))
    assert difference_of_blocks(network, changed) == pytest.approx((one + other) / 5, rel=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        Network(replace(SPACE, blocks=1, reductions=()).modules(BLOCK), 8),
        Network(CELLS.modules(Cell.of_key("141414")), 8),  # a cell without weights
    ],
    ids=["one block", "no weights"],
)
def test_networks_without_a_pair_have_no_value(network: Network) -> None:
    assert difference_of_blocks(network, random_weights(network, 0)) is None


def test_pairs_of_zeros_are_left_out() -> None:
    network = Network(replace(SPACE, reductions=()).modules(BLOCK), 8)
    weights = filled(network, lambda m: float(m >= 4) * m)
    # 1 to 0 of blocks 1 and 2 have no size; blocks 4, 5 and 6 have 4, 5 and 6
    assert difference_of_blocks(network, weights) == pytest.approx((1 / 4 + 1 / 5) / 2, rel=1e-6)
    assert difference_of_blocks(network, filled(network, lambda m: 0.0)) is None
