"""The cells of DARTS (Liu et al., ICLR 2019), some of whose trained accuracies are published.

A cell has two inputs and up to four sums. Each sum adds two edges, and each edge has one of eight
operations on the output of an input or of an earlier sum. The output of the cell is the
concatenation of all its sums. Here each sum and each edge is a node. One cell is all blocks of a
network, as in the paper.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from random import Random
from typing import ClassVar, Literal

from ghn_pipeline.data import darts_cells
from ghn_pipeline.data.darts_cells import SUMS, Edge
from ghn_pipeline.model.graph import Block, Module, Node
from ghn_pipeline.model.isomorphism import canonical_form
from ghn_pipeline.settings.sections import Benchmark, Correlation, Ghn
from ghn_pipeline.spaces.classification import INPUTS, Classification
from ghn_pipeline.spaces.published import PublishedAccuracies
from ghn_pipeline.spaces.simplified import Simplified
from ghn_pipeline.spaces.space import SpaceSettings, different
from ghn_pipeline.system.errors import UserError

#: The operations of an edge by their names in DARTS.
OPERATIONS = {op: "identity" if op == "skip_connect" else op for op in darts_cells.OPERATIONS}
PUBLISHED = {op: name for name, op in OPERATIONS.items()}


def place(number: int) -> int:
    """Return the place in a cell of a node by its number in DARTS.

    Number 0 is the input from two cells before, `input_2`, and 1 that from the cell before,
    `input_1`. Number 2 and up are the sums, each of which follows its two edges.
    """
    return 1 - number if number < 2 else 3 * number - 2


class Cell(Block):
    """A cell: its two inputs; then, for each sum, its two edges and the sum."""

    @classmethod
    def of(cls, edges: Sequence[Edge]) -> "Cell":
        """Return the cell with these edges, two for each sum.

        Args:
            edges: for each edge its operation, and the number in DARTS of the node that it reads.

        Raises:
            ValueError: `darts_cells.check` raises it.
        """
        darts_cells.check([(PUBLISHED.get(op, op), number) for op, number in edges])
        nodes = list(INPUTS)
        for v in range(0, len(edges), 2):
            nodes += [Node(op, (place(number),)) for op, number in edges[v : v + 2]]
            nodes.append(Node("identity", (len(nodes) - 2, len(nodes) - 1)))
        return cls(tuple(nodes))

    @classmethod
    def of_genotype(cls, genotype: str) -> "Cell":
        """Return the cell that is written in the notation of DARTS.

        Raises:
            ValueError: `darts_cells.parsed` raises it.
        """
        return cls.of([(OPERATIONS[op], number) for op, number in darts_cells.parsed(genotype)])

    @property
    def genotype(self) -> str:
        """The cell in the notation of DARTS."""
        return darts_cells.written(self.published)

    @property
    def published(self) -> list[Edge]:
        """Its edges, with the names of operations in DARTS."""
        return [(PUBLISHED[op], number) for op, number in self.edges]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Its edges, as `of` takes them."""
        number = {place(n): n for n in range(2 + len(self.leaves))}
        nodes = (self.nodes[s - back] for s in self.leaves for back in (2, 1))
        return tuple((node.op, number[node.inputs[0]]) for node in nodes)

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """All its sums, whether other nodes read them or not."""
        return tuple(range(4, len(self.nodes), 3))

    @cached_property
    def canonical(self) -> "Cell":
        """The same cell in a listing that does not depend on its own.

        Among all orders of its sums in which each reads earlier ones, with the two edges of each
        sum in the order of their sources and operations, it is the one that sorts first.
        """
        pairs = list(zip(self.edges[::2], self.edges[1::2], strict=True))
        listings = (self._relisted(pairs, order) for order in permutations(range(len(pairs))))
        return Cell.of(min(listing for listing in listings if listing))

    @staticmethod
    def _relisted(pairs: Sequence[tuple[Edge, Edge]], order: Sequence[int]) -> list[Edge]:
        """Return the edges in another order of the sums, [] if a sum would read a later one."""
        number = {0: 0, 1: 1}
        listed: list[Edge] = []
        for sum in order:
            if any(source not in number for _, source in pairs[sum]):
                return []
            edges = [(op, number[source]) for op, source in pairs[sum]]
            listed += sorted(edges, key=lambda edge: edge[::-1])
            number[2 + sum] = len(number)
        return listed

    @cached_property
    def hash(self) -> str:
        """The hash, equal for cells that compute the same function for all weights.

        The weights are those of a GHN or a one-shot model, with batch norm that has no affine part:
        a convolution of zeros is zero. A sum of zeros leaves nothing in what reads the cell, and
        counts as none. A sum that is there twice counts twice.
        """
        graph = Simplified()
        sums = {1: Counter([graph.add("input_1")]), 0: Counter([graph.add("input_2")])}
        for i, pair in enumerate(zip(self.edges[::2], self.edges[1::2], strict=True)):
            added = [graph.through(op, sums[source]) for op, source in pair]
            sums[2 + i] = added[0] + added[1]
            if sums[2 + i]:
                graph.add("output", [graph.name(sums[2 + i])])
        return canonical_form(graph.labels, graph.inputs).hash


@dataclass(frozen=True)
class Darts(Classification):
    """Cells of DARTS, stacked as the blocks of the classification space are.

    An input of a cell is a 1×1 convolution of the output of another cell, at the side of its own.
    In DARTS the operations on the inputs halve the side, and here the inputs do.
    """

    max_inputs: int = field(default=2, init=False)

    def examples(self, nodes: int) -> list[Block]:
        """Return for each operation the cell of `nodes` sums that has it on all edges.

        Together they use every weight that any cell of so many sums uses.
        """
        return [Cell.of([(op, 0), (op, 1)] * nodes) for op in self.operations]

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a random cell of `nodes` sums, or with `fewer` of at most so many.

        The operation and the source of each edge are drawn alone, and all are equally likely.
        """
        nodes = rng.randint(1, nodes) if fewer else nodes
        return Cell.of([self._edge(rng, sum) for sum in range(nodes) for _ in range(2)])

    def _edge(self, rng: Random, sum: int) -> Edge:
        return rng.choice(self.operations), rng.randrange(2 + sum)

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield random cells, none of the same function, until 1000 draws give no new one."""
        return different(lambda: self.sample(rng, nodes))

    def read(self, value: object) -> Block:
        """Read a cell of this space from JSON.

        Raises:
            UserError: the value is not a cell of this space.
        """
        block = Block.from_json(value, self.node_types)
        try:
            cell = Cell.of(Cell(block.nodes).edges)
        except (ValueError, LookupError):  # an edge that reads no input and no sum
            cell = None
        if not cell or cell.nodes != block.nodes:
            raise UserError(
                "a cell of this space starts with the nodes input_1 and input_2. For each of 1 to "
                f"{SUMS} sums follow two nodes, each one of {', '.join(self.operations)}, that "
                "read one input or earlier sum, and the identity that reads these two: "
                f"not {block.shown}"
            )
        return cell

    def mutate(self, rng: Random, block: Block) -> Block:
        """Draw the operation or the source of one edge anew, and go on until the function changes.

        The changes before it stay, so that a cell whose function no single change reaches is left.
        """
        edges = list(Cell(block.nodes).edges)
        while True:
            i = rng.randrange(len(edges))
            drawn = self._edge(rng, i // 2)
            edges[i] = rng.choice([(drawn[0], edges[i][1]), (edges[i][0], drawn[1])])
            mutant = Cell.of(edges)
            if mutant.hash != block.hash:
                return mutant

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain stem, cells, classifier, the same for every listing of the cell."""
        return super().modules(Cell(block.nodes).canonical)


class DartsAccuracies(PublishedAccuracies):
    """The accuracies in a table of DARTS cells.

    Args:
        table: the table.
    """

    title = "DARTS cells"
    datasets: ClassVar = {"cifar10": "CIFAR-10"}
    needs = "the space darts, and a cell that is in the table (presets/darts.yaml)"
    selection = "further cells of the table"
    key_note = (
        "Cell: for each sum its two edges, each an operation and the number of the node that it "
        "reads; 0 is the output of the cell before the previous one, 1 that of the previous one, "
        "and 2 and up are the sums. Accuracy: on validation images, after 200 epochs. The search "
        "is among the cells of the table."
    )

    def __init__(self, table: darts_cells.Table) -> None:
        self.count = len(table.rows)
        self.cells = [
            Cell.of([(OPERATIONS[op], number) for op, number in row.edges]) for row in table.rows
        ]
        self.note = (
            "Published accuracies: Peng et al., Sample-Wise Activation Patterns for Ultra-Fast "
            "NAS, ICLR 2024, who do not say how wide and deep the trained networks were; from a "
            f"file with {table.size}, SHA-256 {table.sha256}."
        )
        self._accuracies = {darts_cells.short(row.edges): row.accuracy for row in table.rows}

    def key(self, block: Block) -> str:
        """Return the edges of a cell in words, in the order of its listing."""
        return darts_cells.short(block.published) if isinstance(block, Cell) else ""

    def accuracies(self, dataset: str) -> Mapping[str, float]:
        """Return the accuracies on the one data set, "cifar10"."""
        return self._accuracies


def _sums(ghns: dict[str, Ghn], correlation: Correlation) -> list[str]:
    return [
        f"ghns.{name}.nodes: a cell of darts has at most {SUMS} sums"
        for name in correlation.ghns
        if name in ghns and ghns[name].nodes > SUMS
    ]


def _selection(correlation: Correlation, benchmark: Benchmark) -> list[str]:
    few = benchmark.curve and correlation.selection < 3
    return ["benchmark.curve: correlation.selection must be 3 or more"] if few else []


class DartsSettings(SpaceSettings):
    """The settings of the search space of DARTS."""

    makes = Darts
    known = tuple(OPERATIONS.values())
    chapters = ("benchmark", "ablations", "claims")
    presets = ("darts",)
    size = "images_note"  # its truth is published, not trained here
    agreements = (_sums, _selection)
    table = darts_cells.SOURCE

    name: Literal["darts"]
    max_inputs: None = None
    exits: None = None

    def published(self, table: str) -> PublishedAccuracies:
        """Return the accuracies in the table that the user names."""
        return DartsAccuracies(darts_cells.read(table))

    def faults(self) -> list[str]:
        """Return a fault if an operation is missing or listed twice, or the sums are not four."""
        faults = super().faults()
        if self.nodes != SUMS:
            faults.append(f"nodes: the published cells of darts have {SUMS} sums")
        if missing := [op for op in self.known if op not in self.operations]:
            faults.append(f"operations: the published cells of darts also have {missing}")
        return faults
