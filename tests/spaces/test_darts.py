"""Cells of DARTS against torch.nn.functional, cells worked out as numbers, and their relistings."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, run
from ghn_pipeline.pipeline.build import untrained
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.spaces.darts import OPERATIONS, Cell, Darts
from ghn_pipeline.system.errors import UserError

OPS = tuple(OPERATIONS.values())
SMALL = Darts(OPS, blocks=3, channels=4, reductions=(2,), stem_multiplier=1, classes=5)
Edges = Sequence[tuple[str, int]]

GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('none', 2), ('max_pool_3x3', 2)], "
    "normal_concat=[2, 3], reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('none', 2), "
    "('max_pool_3x3', 2)], reduce_concat=[2, 3])"
)


def test_a_cell_of_two_sums_by_hand() -> None:
    cell = Cell.of_genotype(GENOTYPE)
    assert cell.nodes == (
        Node("input_1"),  # the previous cell, number 1 in DARTS
        Node("input_2"),  # the one before it, number 0
        Node("sep_conv_3x3", (1,)),
        Node("identity", (0,)),
        Node("identity", (2, 3)),
        Node("none", (4,)),
        Node("max_pool_3x3", (4,)),
        Node("identity", (5, 6)),
    )
    assert cell.leaves == (4, 7)  # the first sum too, though the second reads it
    assert cell.edges == (("sep_conv_3x3", 0), ("identity", 1), ("none", 2), ("max_pool_3x3", 2))
    assert cell.genotype == GENOTYPE


def drawn(seed: int, sums: int = 4, operations: Sequence[str] = OPS) -> Cell:
    cell = replace(SMALL, operations=tuple(operations)).sample(Random(seed), sums)
    assert isinstance(cell, Cell)
    return cell


@pytest.mark.parametrize("sums", [1, 2, 3, 4])
def test_what_was_written_is_read(sums: int) -> None:
    for seed in range(50):
        cell = drawn(seed, sums)
        assert Cell.of_genotype(cell.genotype) == cell
        assert Cell.of(cell.edges) == cell
        read = SMALL.read(json.loads(json.dumps(cell.to_json())))
        assert read == cell
        assert (read.hash, read.leaves) == (cell.hash, cell.leaves)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], "not 0"),
        ([("none", 0)], "not 1"),
        ([("none", 0)] * 10, "not 10"),
        ([("none", 0), ("none", 2)], "node 2 cannot read node 2"),
        ([("none", 0), ("none", -1)], "cannot read node -1"),
        ([("none", 0), ("sep_conv_3x4", 1)], "did you mean sep_conv_3x3"),
    ],
)
def test_what_is_no_cell_is_refused(edges: Edges, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cell.of(edges)


def changed(v: int, op: str, *inputs: int) -> list[list[object]]:
    written = Cell.of_genotype(GENOTYPE).to_json()
    return [*written[:v], [op, list(inputs)], *written[v + 1 :]]


@pytest.mark.parametrize(
    "written",
    [
        changed(0, "input_2"),
        changed(2, "sep_conv_3x3"),
        changed(2, "sep_conv_3x3", 0, 1),
        changed(2, "stem", 0),
        changed(4, "identity", 3, 2),
        changed(4, "none", 2, 3),
        changed(5, "none", 3),  # an edge reads an edge
        changed(0, "input_1")[:-1],
        changed(0, "input_1")[:2],
        changed(0, "input_1")[:1],
        [*changed(0, "input_1"), ["identity", [0]]],
        [["input_1", []]] * 14,
    ],
)
def test_json_of_no_cell_is_refused(written: list[list[object]]) -> None:
    with pytest.raises(UserError, match="a cell of this space starts with"):
        SMALL.read(written)


def test_an_operation_outside_the_space_is_refused() -> None:
    with pytest.raises(UserError, match="unknown operations max_pool_3x3, sep_conv_3x3"):
        replace(SMALL, operations=("none", "identity")).read(Cell.of_genotype(GENOTYPE).to_json())


# ---- an independent network --------------------------------------------------------------------


def normed(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def edge(op: str, x: Tensor, w: list[Tensor]) -> Tensor:
    """An operation as DARTS defines it, without affine parts of batch norm."""
    if op == "none":
        return torch.zeros_like(x)
    if op == "skip_connect":
        return x
    if op == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    if op == "avg_pool_3x3":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    kind, size = op.split("_")[0], int(op[-1])
    dilation = 2 if kind == "dil" else 1
    while w:
        depthwise, pointwise, w = w[0], w[1], w[2:]
        padding = dilation * (size - 1) // 2
        x = F.conv2d(F.relu(x), depthwise, None, 1, padding, dilation, groups=x.shape[1])
        x = normed(F.conv2d(x, pointwise))
    return x


def reference(cell: Cell, space: Darts, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The logits of the stack, by DARTS's own loop over the cells and over their edges."""

    def of(m: int, v: int) -> list[Tensor]:
        return [w for name, w in weights.items() if name.startswith(f"{m:02d}/{v:02d}/")]

    def bottleneck(m: int, v: int, states: list[Tensor], stride: int) -> Tensor:
        x = F.relu(torch.cat(states, 1)[:, :, ::stride, ::stride])
        return normed(F.conv2d(x, torch.cat(of(m, v), 1)))

    before = last = [normed(F.conv2d(images, *of(0, 0), padding=1))]
    for m in range(1, space.blocks + 1):
        side = images.shape[2] // 2 ** sum(m >= r for r in space.reductions)
        states = [
            bottleneck(m, v, source, source[0].shape[2] // side)
            for v, source in ((1, before), (0, last))
        ]
        pairs = cell.published
        for i in range(0, len(pairs), 2):
            one, other = (
                edge(op, states[n], of(m, 2 + 3 * (i // 2) + k))
                for k, (op, n) in enumerate(pairs[i : i + 2])
            )
            states.append(one + other)
        before, last = last, states[2:]
    *matrices, bias = of(space.blocks + 1, 0)
    pooled = torch.cat([F.relu(x).mean((2, 3)) for x in last], 1)
    return pooled @ torch.cat(matrices, 1).T + bias


def reading_both(seed: int, sums: int = 4, operations: Sequence[str] = OPS) -> Cell:
    """A random cell that reads both inputs, so that the network uses every block."""
    cells = (drawn(1000 * seed + i, sums, operations) for i in range(1000))
    return next(cell for cell in cells if {0, 1} <= {source for _, source in cell.edges})


@pytest.mark.parametrize("seed", range(12))
def test_networks_equal_darts_own_loop(seed: int) -> None:
    cell = reading_both(seed, 2 + seed % 3).canonical
    network = Network(SMALL.modules(cell), 8)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {s.name: normal(*s.shape) for s in network.specs}
    images = normal(3, 3, 8, 8)
    torch.testing.assert_close(
        run(network, weights, images), reference(cell, SMALL, weights, images)
    )


# ---- cells that compute the same ---------------------------------------------------------------

#: One operation of each kind, and a second convolution.
KINDS = ("none", "identity", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")


def as_numbers(edges: Edges, weights: Sequence[int]) -> list[np.ndarray]:
    """The sums of a cell on two inputs of five numbers each, with these weights of its edges."""
    states = [np.array([0.3, -1.2, 0.8, 2.1, -0.7]), np.array([1.1, 0.4, -0.9, 0.2, 1.7])]
    window = [[u for u in (v - 1, v, v + 1) if 0 <= u < 5] for v in range(5)]

    def applied(op: str, weight: int, x: np.ndarray) -> np.ndarray:
        if op == "max_pool_3x3":
            return np.array([max(x[u] for u in us) for us in window])
        if op == "avg_pool_3x3":
            return np.array([sum(x[u] for u in us) / len(us) for us in window])
        if op in ("none", "identity"):
            return x * (op == "identity")
        # any function with f(0) = 0 that depends on the kind and the weights
        kind = 1.0 if op == "sep_conv_3x3" else 1.618
        return np.sin((0.7 + 0.37 * weight) * kind * x) + 0.1 * weight * np.roll(x, 1)

    for i in range(0, len(edges), 2):
        (op, u), (other, w) = edges[i : i + 2]
        both = applied(op, weights[i], states[u]) + applied(other, weights[i + 1], states[w])
        states.append(both)
    return states[2:]


def function(edges: Edges) -> float:
    """A number for all that a cell can be, by every way to deal weights to its edges.

    What reads the cell has weights for each sum, so that their order does not matter; and a sum of
    zeros adds nothing.
    """
    mix = np.array([0.9, -0.4, 1.3, 0.6, -1.1])
    values = [
        np.sin(3 * sum(np.sin(1.7 * x) @ mix for x in as_numbers(edges, order)))
        for order in permutations(range(len(edges)))
    ]
    return round(float(np.mean(values)), 9) + 0.0


def determines(one: Sequence[object], other: Sequence[object]) -> bool:
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len({first for first, _ in pairs})


def test_hashes_tell_the_functions_of_all_cells_of_one_sum_apart() -> None:
    every = list(product(product(KINDS, range(2)), repeat=2))
    hashes, functions = [Cell.of(e).hash for e in every], [function(e) for e in every]
    assert determines(hashes, functions) and determines(functions, hashes)
    assert 30 < len(set(hashes)) < len(every) / 1.8


@pytest.mark.parametrize("operations", [KINDS, KINDS[:-1], KINDS[:-2], KINDS[1:3]])
def test_hashes_tell_the_functions_of_cells_of_two_sums_apart(operations: Sequence[str]) -> None:
    every = list({drawn(seed, 2, operations).edges for seed in range(1000)})
    hashes, functions = [Cell.of(e).hash for e in every], [function(e) for e in every]
    assert determines(hashes, functions) and determines(functions, hashes)
    assert len(set(hashes)) < len(every)


EQUAL: dict[str, tuple[Edges, Edges]] = {
    "a sum of zeros counts as none": (
        [("sep_conv_3x3", 0), ("none", 1), ("none", 0), ("none", 2)],
        [("none", 1), ("sep_conv_3x3", 0)],
    ),
    "a convolution of zeros": (
        [("none", 0), ("none", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2)],
        [("sep_conv_3x3", 0), ("none", 0)],
    ),
    "an input through a sum": (
        [("identity", 0), ("none", 1), ("identity", 2), ("sep_conv_3x3", 2)],
        [("none", 0), ("identity", 0), ("sep_conv_3x3", 0), ("identity", 0)],
    ),
    "the maximum of twice a sum": (
        [("identity", 0), ("identity", 0), ("max_pool_3x3", 2), ("none", 0)],
        [("identity", 0), ("identity", 0), ("max_pool_3x3", 0), ("max_pool_3x3", 0)],
    ),
    "the mean of a sum": (
        [("identity", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 2), ("none", 0)],
        [("sep_conv_3x3", 1), ("identity", 0), ("none", 1), ("avg_pool_3x3", 2)],
    ),
}
DIFFERENT: dict[str, tuple[Edges, Edges]] = {
    "two equal skip connections count twice": (
        [("identity", 0), ("identity", 0)],
        [("identity", 0), ("none", 0)],
    ),
    "two convolutions of a kind, and one twice": (
        [("sep_conv_3x3", 0), ("none", 0), ("sep_conv_3x3", 0), ("none", 0)],
        [("sep_conv_3x3", 0), ("none", 0), ("identity", 2), ("none", 0)],
    ),
    "a sum that is there twice": (
        [("sep_conv_3x3", 0), ("none", 0), ("identity", 2), ("none", 0)],
        [("sep_conv_3x3", 0), ("none", 0)],
    ),
    "the other input": ([("identity", 0), ("none", 0)], [("identity", 1), ("none", 0)]),
    "the maximum of a sum, and a sum of maxima": (
        [("identity", 0), ("identity", 1), ("max_pool_3x3", 2), ("none", 0)],
        [("identity", 0), ("identity", 1), ("max_pool_3x3", 0), ("max_pool_3x3", 1)],
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_cells_of_the_same_function_share_a_hash(one: Edges, other: Edges) -> None:
    assert Cell.of(one).hash == Cell.of(other).hash


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_cells_of_different_functions_have_different_hashes(one: Edges, other: Edges) -> None:
    assert function(one) != function(other)
    assert Cell.of(one).hash != Cell.of(other).hash


# ---- one cell in many listings -----------------------------------------------------------------


def relisted(cell: Cell, rng: Random) -> Cell:
    """The same cell: its sums in another order that the edges allow, and edges swapped."""
    pairs = [list(cell.edges[i : i + 2]) for i in range(0, len(cell.edges), 2)]
    number, edges = {0: 0, 1: 1}, []
    left = list(range(len(pairs)))
    while left:
        ready = [i for i in left if all(source in number for _, source in pairs[i])]
        chosen = rng.choice(ready)
        left.remove(chosen)
        edges += [(op, number[u]) for op, u in rng.sample(pairs[chosen], 2)]
        number[2 + chosen] = len(number)
    return Cell.of(edges)


def test_relistings_have_one_canonical_cell_and_one_hash() -> None:
    several = 0
    for seed in range(200):
        cell, rng = drawn(seed, operations=OPS[: 2 + seed % 7]), Random(seed)
        others = [relisted(cell, rng) for _ in range(10)]
        assert {other.canonical for other in others} == {cell.canonical}
        assert {other.hash for other in others} == {cell.hash}
        assert cell.canonical.hash == cell.hash
        assert cell.canonical.canonical == cell.canonical
        assert sorted(Counter(c.op for c in cell.canonical.nodes)) == sorted(
            Counter(c.op for c in cell.nodes)
        )
        several += len(set(others)) > 4
    assert several > 100


def test_twins_that_others_read_differently_are_in_one_order() -> None:
    """The first two sums are alike, and what the others read tells them apart."""
    twins = [("sep_conv_3x3", 0), ("none", 1)] * 2
    readers = [("identity", 2), ("identity", 2), ("max_pool_3x3", 3), ("identity", 0)]
    swapped = [(op, {2: 3, 3: 2}.get(source, source)) for op, source in readers]
    assert Cell.of(twins + readers) != Cell.of(twins + swapped)
    assert Cell.of(twins + readers).canonical == Cell.of(twins + swapped).canonical
    different = [("identity", 2), ("identity", 3), ("max_pool_3x3", 3), ("identity", 0)]
    assert Cell.of(twins + different).canonical != Cell.of(twins + readers).canonical


CELLS = {
    "space": {"name": "darts", "nodes": 4, "max_inputs": None, "operations": list(OPS)},
    "benchmark": {"table": "cells.csv"},
    "ghn.nodes": 3,
    "correlation.ghns": ["default"],
    "evaluation.measure": "likelihood",
    "evaluation.batch": 20,
    "evaluation.batches": 1,
}


def random_splits() -> Splits:
    """Random images in place of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        pixels = torch.randint(256, (count, 3, 8, 8), generator=generator)
        return Images(pixels.to(torch.uint8), torch.arange(count) % 10)

    return Splits(images(20), images(20), images(20), torch.full((3,), 0.5), torch.ones(3))


@pytest.mark.parametrize("stage", ["ghn/default", "oneshot/0"])
def test_relistings_are_scored_alike_to_the_last_bit(
    stage: str, configured: Callable[[dict[str, Any]], Config]
) -> None:
    config = configured(CELLS)
    space, model = space_of(config), untrained(config, stage)
    score = scorer(model, space, random_splits(), config.evaluation, 8)
    values = set()
    for seed in range(12):
        cell, rng = reading_both(seed), Random(seed)
        listings = [cell, *(relisted(cell, rng) for _ in range(4))]
        assert len(set(listings)) > 1
        found = {tuple(score([listing])[0].values.values()) for listing in listings}
        assert len(found) == 1
        values |= found
    assert len(values) > 10


# ---- drawing -----------------------------------------------------------------------------------


def weights_of(space: Darts, cell: Block) -> set[tuple[str, tuple[int, ...]]]:
    return {(spec.name, spec.shape) for spec in Network(space.modules(cell), 8).specs}


@pytest.mark.parametrize("sums", [1, 2, 4])
def test_examples_ask_for_every_weight(sums: int) -> None:
    held = set().union(*(weights_of(SMALL, cell) for cell in SMALL.examples(sums)))
    asked = set().union(*(weights_of(SMALL, drawn(seed, sums)) for seed in range(150)))
    assert asked == held


def test_operations_and_sources_are_equally_likely() -> None:
    count = 4000
    cells = [drawn(seed) for seed in range(count)]
    for i in range(8):
        for part, kinds in ((0, OPS), (1, range(2 + i // 2))):
            found = Counter(cell.edges[i][part] for cell in cells)
            assert set(found) == set(kinds)
            expected = count / len(kinds)
            assert all(abs(n - expected) < 5 * expected**0.5 for n in found.values())


def test_weights_of_operations_are_those_of_their_draws(
    configured: Callable[[dict[str, Any]], Config],
) -> None:
    space = space_of(configured(CELLS), {"sep_conv_3x3": 3})
    rng = Random(0)
    blocks = [space.sample(rng, 3) for _ in range(1000)]
    found = Counter(op for block in blocks for op, _ in Cell(block.nodes).edges)
    assert found["sep_conv_3x3"] / found["none"] == pytest.approx(3, rel=0.15)


def mutants(cell: Block, count: int) -> Iterator[Cell]:
    for seed in range(count):
        mutant = SMALL.mutate(Random(seed), cell)
        assert isinstance(mutant, Cell)
        yield mutant


def test_mutation_changes_one_part_of_an_edge_and_the_function() -> None:
    cell = reading_both(3)
    seen = set()
    for mutant in mutants(cell, 300):
        assert mutant.hash != cell.hash
        changes = [
            (i, part)
            for i, (one, other) in enumerate(zip(cell.edges, mutant.edges, strict=True))
            for part in range(2)
            if one[part] != other[part]
        ]
        # more only where the first left the function as it was
        seen |= set(changes) if len(changes) == 1 else set()
    assert seen == set(product(range(8), range(2)))


def test_a_cell_of_zeros_is_left() -> None:
    nothing = Cell.of([("none", 0)] * 8)
    assert all(mutant.hash != nothing.hash for mutant in mutants(nothing, 20))


def test_draws_have_each_function_once() -> None:
    space = replace(SMALL, operations=("none", "identity"))
    drawn = list(space.draws(Random(0), 1))
    assert len({block.hash for block in drawn}) == len(drawn)
    # nothing, an input once or twice, and both
    assert len(drawn) == 6
