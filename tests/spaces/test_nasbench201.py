"""NAS-Bench-201's cells against torch.nn, the published counts and cells worked out as numbers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice, permutations, product
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, run
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.drop_path import paths

PAPER = NasBench201(
    operations=EDGES, blocks=15, channels=16, reductions=(6, 11), stem_multiplier=1, classes=10
)
SMALL = replace(PAPER, blocks=4, channels=4, reductions=(2, 4), classes=5)
#: Every cell of the published tables.
CELLS = [Cell.of(edges) for edges in product(EDGES, repeat=6)]
HASHES = [cell.hash for cell in CELLS]
#: Where the operations of its edges stand among a cell's nodes.
PLACES = (1, 3, 4, 6, 7, 8)


# --- what a cell is -------------------------------------------------------------------------


def test_a_cell_of_three_sums_by_hand() -> None:
    assert Cell.of_key("013421").nodes == (
        Node("input"),
        Node("none", (0,)),
        Node("identity", (1,)),
        Node("identity", (0,)),
        Node("conv_3x3", (2,)),
        Node("identity", (3, 4)),
        Node("avg_pool_3x3", (0,)),
        Node("conv_1x1", (2,)),
        Node("identity", (5,)),
        Node("identity", (6, 7, 8)),
    )


@pytest.mark.parametrize("sums", [1, 2, 3])
def test_keys_and_edges_give_the_cell_back(sums: int) -> None:
    edges = sums * (sums + 1) // 2
    for digits in product("01234", repeat=edges):
        cell = Cell.of_key("".join(digits))
        assert cell.key == "".join(digits)
        assert cell.edges == tuple(EDGES[int(digit)] for digit in digits)
        assert Cell.of(cell.edges) == cell
        assert len(cell.nodes) == 1 + edges + sums
        assert cell.leaves == (len(cell.nodes) - 1,)  # the last sum is all that it puts out


@pytest.mark.parametrize("edges", [2, 4, 5, 7, 8, 9])
def test_other_numbers_of_edges_make_no_cell(edges: int) -> None:
    with pytest.raises(ValueError, match=f"not {edges}$"):
        Cell.of(["identity"] * edges)


# --- an independent implementation, of torch.nn modules --------------------------------------


def norm(channels: int) -> nn.Module:
    """Batch norm by the statistics of the batch, with no affine part."""
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def relu_conv_norm(into: int, out: int, kernel: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(out))


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda c: Zero(),
    "identity": lambda c: nn.Identity(),
    "conv_1x1": lambda c: relu_conv_norm(c, c, 1),
    "conv_3x3": lambda c: relu_conv_norm(c, c, 3),
    "avg_pool_3x3": lambda c: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}


class Reference(nn.Module):
    """The network of Figure 1 of the paper; its layers are named by module and node."""

    def __init__(self, cell: Cell, space: NasBench201) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.chain: list[tuple[Callable[[int, Tensor], Tensor], int]] = []
        modules, c = count(1), space.channels * space.stem_multiplier
        self.layers["00/00"] = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), norm(c))
        for i in range(1, space.blocks + 1):
            if i in space.reductions:
                m, into = next(modules), c
                c = space.channels * 2 ** (1 + space.reductions.index(i))
                self.layers[f"{m:02d}/00"] = relu_conv_norm(into, c, 3, stride=2)
                self.layers[f"{m:02d}/01"] = relu_conv_norm(c, c, 3)
                self.layers[f"{m:02d}/02"] = nn.Sequential(
                    nn.AvgPool2d(2, 2), nn.Conv2d(into, c, 1, bias=False)
                )
                self.chain.append((self.reduce, m))
            m = next(modules)
            for v, op in zip(PLACES, cell.edges, strict=True):
                self.layers[f"{m:02d}/{v:02d}"] = LAYERS[op](c)
            self.chain.append((self.cell, m))
        last = next(modules) + 1
        self.head = nn.Sequential(norm(c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.layers[f"{last:02d}/00"] = self.classifier = nn.Linear(c, space.classes)

    def reduce(self, m: int, x: Tensor) -> Tensor:
        first, second, shortcut = (self.layers[f"{m:02d}/{v:02d}"] for v in range(3))
        return shortcut(x) + second(first(x))

    def cell(self, m: int, x: Tensor) -> Tensor:
        e01, e02, e12, e03, e13, e23 = (self.layers[f"{m:02d}/{v:02d}"] for v in PLACES)
        one = e01(x)
        two = e02(x) + e12(one)
        return e03(x) + e13(one) + e23(two)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers["00/00"](x)
        for step, m in self.chain:
            x = step(m, x)
        return self.classifier(self.head(x))

    def weight(self, name: str) -> Tensor:
        """The weight of a name in the network under test."""
        (found,) = (
            parameter
            for key, parameter in self.layers[name[:5]].named_parameters()
            if key.endswith("bias") == name.endswith("bias")
        )
        return found


@pytest.mark.parametrize(
    "space", [SMALL, replace(SMALL, reductions=(1, 3), stem_multiplier=2)], ids=["later", "first"]
)
@pytest.mark.parametrize("seed", range(6))
def test_networks_equal_torch_modules(seed: int, space: NasBench201) -> None:
    torch.manual_seed(seed)
    cell = Cell.of(Random(seed).choices(EDGES, k=6))
    reference = Reference(cell, space).double()
    network = Network(space.modules(cell), 8)
    weights = {spec.name: reference.weight(spec.name) for spec in network.specs}
    assert len(weights) == len(list(reference.parameters()))
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    logits = run(network, weights, images)
    torch.testing.assert_close(logits, reference(images), rtol=1e-10, atol=1e-10)


# --- cells that compute the same ------------------------------------------------------------


EQUAL = {
    "convolution of zeros": ("000130", "000100"),
    "nothing but zeros": ("033000", "000032"),
    "chain of identities": ("301001", "000300"),
    "branch that ends": ("333200", "000200"),
    "sums swapped": ("230032", "320023"),
    "input twice": ("111001", "100110"),
    "zero in a sum": ("010001", "000100"),
    "order of a sum": ("241301", "341201"),
    "pooled sum": ("311004", "300440"),
}
DIFFERENT = {
    "one convolution twice, and two": ("301011", "300310"),
    "one convolution read twice, and two": ("302011", "302301"),
    "pooled before and after": ("400030", "300040"),
    "3×3 before and after 1×1": ("300020", "200030"),
    "sum of convolutions, and of a sum": ("200330", "211003"),
    "result once and twice": ("301110", "301111"),
}


def all_logits(key: str) -> Iterator[Tensor]:
    """What a network of one cell says, by each way to deal 6 sets of weights to its edges."""
    space = replace(SMALL, blocks=1, channels=2, reductions=(), classes=3)
    network = Network(space.modules(Cell.of_key(key)), 4)
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(9)).double()
    convolutions = [v for v, digit in zip(PLACES, key, strict=True) if digit in "23"]
    for order in permutations(range(6), len(convolutions)):
        seeds = {(1, v): i for v, i in zip(convolutions, order, strict=True)}
        weights = {
            spec.name: torch.randn(
                spec.shape,
                generator=torch.Generator().manual_seed(
                    seeds.get(spec.place, 10 + len(spec.shape))
                ),
            ).double()
            for spec in network.specs
        }
        yield run(network, weights, images)


def can_agree(one: str, other: str) -> bool:
    """Whether some weights of the other cell make it what the first is."""
    logits = next(all_logits(one))
    return any(torch.allclose(logits, x, rtol=0, atol=1e-8) for x in all_logits(other))


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_cells_of_the_same_function_share_a_hash(one: str, other: str) -> None:
    assert can_agree(one, other)
    assert Cell.of_key(one).hash == Cell.of_key(other).hash


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_cells_of_different_functions_have_different_hashes(one: str, other: str) -> None:
    assert not can_agree(one, other)
    assert Cell.of_key(one).hash != Cell.of_key(other).hash


AMPLITUDES, FREQUENCIES = np.random.default_rng(0).uniform(0.5, 2, (2, 2, 6))


def applied(op: str, weights: int, x: np.ndarray) -> np.ndarray:
    """An operation on numbers: linear where it is linear, zero where it is zero."""
    if op in {"none", "identity", "avg_pool_3x3"}:
        return {"none": 0, "identity": 1, "avg_pool_3x3": 0.7391}[op] * x
    kind = int(op == "conv_3x3")
    return AMPLITUDES[kind, weights] * np.sin(FREQUENCIES[kind, weights] * x)


def outputs(order: Sequence[int]) -> np.ndarray:
    """The outputs of all cells on one input, in the order of `product`; 5 to the number of edges.

    Args:
        order: for each edge, the weights of its convolution.
    """
    axis, sums = 0, [np.full((1,) * len(order), 1.2345)]  # the axis of an edge to come is 1 long
    while axis < len(order):
        added = np.zeros(())
        for x in sums:
            results = [applied(op, order[axis], x) for op in EDGES]
            added = added + np.concatenate(results, axis)
            axis += 1
        sums.append(added)
    return sums[-1].ravel()


def classes(values: np.ndarray) -> list[int]:
    """A number for each value, the same for equals."""
    order = np.argsort(values)
    labels = np.zeros(len(values), dtype=int)
    # rounding leaves 1e-14 between equals; others are 1e-8 apart
    labels[order[1:]] = np.cumsum(np.diff(values[order]) > 1e-11)
    return labels.tolist()


def determines(one: Iterable[Hashable], other: Iterable[Hashable]) -> bool:
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len({first for first, _ in pairs})


@pytest.mark.parametrize("edges", [1, 3, 6])
def test_hashes_tell_the_functions_of_all_cells_apart(edges: int) -> None:
    hashes = [Cell.of(ops).hash for ops in product(EDGES, repeat=edges)]
    # whatever the weights: what a cell can be by all ways to deal them is a set of outputs, here
    # summed up in one number
    dealt = permutations(range(edges))
    functions = classes(np.mean([np.sin(1.7 * outputs(order)) for order in dealt], axis=0))
    assert determines(hashes, functions)
    assert determines(functions, hashes)


# --- the authors' count ---------------------------------------------------------------------


def published_string(edges: Sequence[str], zeros: bool = True) -> str:
    """What the authors tell cells apart by; with or without what they know of zeros."""
    strings, left = ["0"], list(edges)
    while left:
        added = []
        for source in strings:
            op = left.pop(0)
            if zeros and (op == "none" or source == "#"):
                added.append("#")
            else:
                added.append(source if op == "identity" else f"({source})@{op}")
        strings.append("+".join(sorted(added)))
    return strings[-1]


#: What a sum adds up: an operation's name and what it reads.
Term = tuple[str, *tuple["Term", ...]]


def terms(edges: Sequence[str]) -> tuple[Term, ...]:
    """The string with its three faults mended: see the test."""
    sums: list[list[Term]] = [[("input",)]]
    left = list(edges)
    while left:
        added: list[Term] = []
        for source in sums:
            op = left.pop(0)
            if op == "identity":
                added += source
            elif op == "avg_pool_3x3":
                added += [(op, term) for term in source]
            elif op != "none" and source:
                added.append((op, *sorted(source)))
        sums.append(added)
    return tuple(sorted(sums[-1]))


def convolutions(found: Iterable[Term]) -> Iterator[Term]:
    """Every convolution that is read in working out the terms, as often as it is."""
    for term in found:
        if term[0].startswith("conv"):
            yield term
        yield from convolutions(term[1:])


def test_counts_of_cells() -> None:
    strings = {published_string(cell.edges) for cell in CELLS}
    assert len(strings) == 6466  # as the paper counts them
    assert len({published_string(cell.edges, zeros=False) for cell in CELLS}) == 12751
    assert len(set(HASHES)) == 5044


def test_strings_and_hashes_differ_for_known_reasons() -> None:
    strings = [published_string(cell.edges) for cell in CELLS]
    mended = [terms(cell.edges) for cell in CELLS]
    # strings keep zeros and the order in which sums were nested, and do not know that pooling is
    # linear: without this they tell functions apart, up to which weights are whose
    assert determines(strings, mended)
    assert determines(mended, classes(outputs([0] * 6)))
    assert determines(classes(outputs([0] * 6)), mended)
    assert len(set(mended)) == 4660
    # hashes also tell one convolution that is read twice from two of a kind, and nothing else
    assert determines(HASHES, mended)
    found = defaultdict(set)
    for key, value in zip(mended, HASHES, strict=True):
        found[key].add(value)
    several = [key for key, values in found.items() if len(values) > 1]
    assert len(several) == 364
    assert all(max(Counter(convolutions(key)).values()) > 1 for key in several)


@pytest.mark.parametrize("reason", ["zero in a sum", "order of a sum", "pooled sum"])
def test_strings_tell_cells_of_the_same_function_apart(reason: str) -> None:
    one, other = (published_string(Cell.of_key(key).edges) for key in EQUAL[reason])
    assert one != other


# --- drawing and reading --------------------------------------------------------------------


def weights_of(space: NasBench201, cell: Block) -> set[tuple[int, str, tuple[int, ...]]]:
    """For each weight the module, the branch and the shape."""
    return {(s.place[0], s.branch, s.shape) for s in Network(space.modules(cell), 8).specs}


@pytest.mark.parametrize("operations", [EDGES, ("identity", "conv_1x1"), ("conv_3x3", "none")])
@pytest.mark.parametrize("sums", [1, 2, 3])
def test_examples_ask_for_every_weight(sums: int, operations: tuple[str, ...]) -> None:
    space = replace(SMALL, operations=operations)
    held = set().union(*(weights_of(space, cell) for cell in space.examples(sums)))
    rng = Random(0)
    asked = set().union(*(weights_of(space, space.sample(rng, sums)) for _ in range(40)))
    assert asked == held  # 40 cells ask for all there is


def test_draws_are_every_cell_once() -> None:
    drawn = list(PAPER.draws(Random(0), 2))
    assert len(drawn) == 5**3
    assert set(drawn) == {Cell.of(edges) for edges in product(EDGES, repeat=3)}
    assert drawn == list(PAPER.draws(Random(0), 2)) != list(PAPER.draws(Random(1), 2))
    first = [Cell(cell.nodes).key for cell in islice(PAPER.draws(Random(0), 3), 1000)]
    assert len(set(first)) == 1000
    # in no order: a digit is as likely as another, with a standard deviation of 13
    assert all(abs(column.count("3") - 200) < 60 for column in zip(*first, strict=True))


def test_samples_use_the_operations_of_the_space() -> None:
    space, rng = replace(PAPER, operations=("identity", "conv_1x1")), Random(0)
    edges = [Cell(space.sample(rng, 3).nodes).edges for _ in range(500)]
    assert all(len(ops) == 6 for ops in edges)
    # each edge is drawn alone: 64 cells, all seen, each half of the time with either operation
    assert set(edges) == set(product(space.operations, repeat=6))
    assert space.sample(Random(5), 3) == space.sample(Random(5), 3)


@pytest.mark.parametrize("operations", [EDGES, ("none", "identity", "avg_pool_3x3")])
@pytest.mark.parametrize("sums", [1, 2, 3])
def test_mutation_changes_one_edge_and_the_function(sums: int, operations: tuple[str, ...]) -> None:
    space, rng = replace(PAPER, operations=operations), Random(1)
    changed = set()
    for _ in range(200):
        cell = space.sample(rng, sums)
        mutant = space.mutate(rng, cell)
        before, after = Cell(cell.nodes).edges, Cell(mutant.nodes).edges
        edges = [e for e, ops in enumerate(zip(before, after, strict=True)) if len({*ops}) > 1]
        assert mutant.hash != cell.hash
        assert set(after) <= set(operations)
        # more than one only where the first changes left the function as it was
        if len(edges) == 1:
            changed.add((edges[0], after[edges[0]]))
        else:
            first = [
                Cell.of([*before[:e], op, *before[e + 1 :]]).hash
                for e in edges
                for op in operations
            ]
            assert cell.hash in first
    assert changed == set(product(range(len(before)), operations))
    assert space.mutate(Random(2), cell) == space.mutate(Random(2), cell)


def test_mutations_leave_a_cell_with_a_lost_sum() -> None:
    """Of "000100" single changes reach five cells only: its other sums are lost."""
    space, rng, cell = PAPER, Random(0), PAPER.read(Cell.of_key("000100").to_json())
    seen = set()
    for _ in range(300):
        cell = space.mutate(rng, cell)
        seen.add(cell.hash)
    assert len(seen) > 100


@pytest.mark.parametrize("sums", [1, 2, 3])
def test_what_was_written_is_read(sums: int) -> None:
    rng = Random(0)
    for cell in (PAPER.sample(rng, sums) for _ in range(50)):
        read = PAPER.read(cell.to_json())
        assert read == cell
        assert read.hash == cell.hash  # a cell, not any block


def changed_node(v: int, op: str, *inputs: int) -> list[list[object]]:
    written = Cell.of_key("124").to_json()
    return [*written[:v], [op, list(inputs)], *written[v + 1 :]]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a block", "not a block"),
        ([], "no nodes"),
        (changed_node(1, "max_pool_3x3", 0), "unknown operations max_pool_3x3"),
        (Cell.of_key("124").to_json()[:-2], "not a cell: .* not 2"),
        (Cell.of_key("124").to_json()[:-1], "a cell of this space"),
        (changed_node(0, "identity"), "a cell of this space"),
        (changed_node(1, "stem", 0), "a cell of this space"),
        (changed_node(2, "conv_1x1", 1), "a cell of this space"),
        (changed_node(4, "avg_pool_3x3", 0), "a cell of this space"),
        (changed_node(5, "identity", 3), "a cell of this space"),
        (changed_node(5, "identity", 4, 3), "a cell of this space"),
    ],
)
def test_what_is_no_cell_is_refused(written: list[list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PAPER.read(written)


def test_operations_outside_the_space_are_refused() -> None:
    space = replace(PAPER, operations=("identity", "conv_1x1"))
    assert space.read(Cell.of_key("122").to_json()) == Cell.of_key("122")
    # it is a node type of the space all the same: reductions have it
    with pytest.raises(UserError, match="a cell of this space"):
        space.read(Cell.of_key("123").to_json())


# --- counting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "millions", "parameters"),
    # the ends of the published ranges: FLOPs in millions, and parameters in millions
    [("000000", 7.78304, 0.073306), ("333333", 220.11968, 1.531546)],
)
def test_published_ranges(key: str, millions: float, parameters: float) -> None:
    network = Network(PAPER.modules(Cell.of_key(key)), 32)
    assert network.multiply_adds == round(millions * 1e6)
    assert network.parameters == round(parameters * 1e6)


@pytest.mark.parametrize("seed", range(3))
def test_multiply_adds_are_those_that_torch_counts(seed: int) -> None:
    network = Network(PAPER.modules(PAPER.sample(Random(seed), 3)), 32)
    weights = {spec.name: torch.randn(spec.shape) for spec in network.specs}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(network, weights, torch.randn(1, 3, 32, 32))
    assert 2 * network.multiply_adds == counter.get_total_flops()


def test_the_chain_is_that_of_the_paper() -> None:
    # three stages of 5 cells, of 16, 32 and 64 channels, each after the first behind a reduction
    chain = PAPER.modules(CELLS[0])
    assert [m.channels for m in chain] == [16] * 6 + [32] * 6 + [64] * 6 + [64, 10]
    assert [m.scale for m in chain] == [1] * 6 + [2] * 6 + [4] * 8
    assert [m for m, module in enumerate(chain) if module.block == CELLS[0]] == [
        *range(1, 6), *range(7, 12), *range(13, 18)
    ]  # fmt: skip
    names = {node.op for m in chain for node in m.block.nodes} | set(EDGES)
    assert names == set(PAPER.node_types)
    assert len(names) == len(PAPER.node_types)


def test_paths_of_the_last_cell_are_dropped_with_the_whole_probability() -> None:
    """Zoph et al. (2018): cell i of L has i/L of it; what follows the last cell is no cell."""
    found = paths(Network(SMALL.modules(Cell.of_key("333333")), resolution=8)).values()
    assert sorted({depth for _, depth in found}) == [0.25, 0.5, 0.75, 1.0]
