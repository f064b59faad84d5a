"""The space of NAS-Bench-201 (Dong and Yang, ICLR 2020), whose trained accuracies are published.

A cell is a graph of four sums. Each sum reads all earlier ones, and each edge has one of five
operations. Here each sum and each operation of an edge is a node.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from random import Random
from typing import ClassVar, Literal

from ghn_pipeline.data.nasbench201 import published
from ghn_pipeline.model.graph import Block, Module, Node
from ghn_pipeline.model.isomorphism import canonical_form
from ghn_pipeline.settings.sections import Benchmark, Correlation, Macro, Proxies
from ghn_pipeline.spaces.classification import CLASSIFIER, STEM
from ghn_pipeline.spaces.published import PublishedAccuracies
from ghn_pipeline.spaces.simplified import Simplified
from ghn_pipeline.spaces.space import SpaceSettings
from ghn_pipeline.system.errors import UserError

#: The operations of an edge, in the order in which the published tables number them.
EDGES = ("none", "identity", "conv_1x1", "conv_3x3", "avg_pool_3x3")
#: Number of computed sums of a cell in the published tables.
NODES = 3
NORM = Block((Node("norm"),))
#: A residual block of ResNet, before a stage, which halves the side and doubles the channels.
REDUCTION = Block(
    (
        Node("reduce_3x3"),
        Node("conv_3x3", (0,)),
        Node("downsample"),
        Node("identity", (1, 2)),
    )
)


class Cell(Block):
    """A cell: the node "input"; then, for each sum, the operations on its edges and the sum."""

    @classmethod
    def of(cls, operations: Sequence[str]) -> "Cell":
        """Return the cell with these operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.

        Raises:
            ValueError: no cell has so many edges.
        """
        nodes, sums, left = [Node("input")], [0], list(operations)
        while left or len(sums) == 1:
            if len(left) < len(sums):
                raise ValueError(f"a cell has 1, 3, 6 or so edges, not {len(operations)}")
            nodes += [Node(left.pop(0), (u,)) for u in sums]
            edges = range(len(nodes) - len(sums), len(nodes))
            nodes.append(Node("identity", tuple(edges)))
            sums.append(len(nodes) - 1)
        return cls(tuple(nodes))

    @classmethod
    def of_key(cls, key: str) -> "Cell":
        """Return the cell of a key of the published tables, which has a digit for each edge."""
        return cls.of([EDGES[int(digit)] for digit in key])

    @cached_property
    def key(self) -> str:
        """Its key in the published tables."""
        return "".join(str(EDGES.index(op)) for op in self.edges)

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """The operation of each edge."""
        sums = {v + v * (v + 1) // 2 for v in range(len(self.nodes))}
        return tuple(node.op for v, node in enumerate(self.nodes) if v not in sums)

    @cached_property
    def hash(self) -> str:
        """The hash, equal for cells that compute the same function for all weights.

        A convolution of twice a sum differs here from one of the sum itself, although the batch
        norm after it makes both equal, except for its epsilon.
        """
        graph = simplified(self.edges)
        return canonical_form(graph.labels, graph.inputs).hash


def simplified(edges: Sequence[str]) -> Simplified:
    """Return the graph that a cell's function needs, without sums that its output ignores."""
    graph, left, last = Simplified(), list(edges), 0
    ops: dict[tuple[int, int], str] = {}
    while left:
        last += 1
        ops |= {(u, last): left.pop(0) for u in range(last)}
    known = {0: Counter([graph.add("input")])}

    def counts(v: int) -> Counter[int]:
        if v not in known:
            edges = (graph.through(ops[u, v], counts(u)) for u in range(v) if ops[u, v] != "none")
            known[v] = sum(edges, Counter())
        return known[v]

    graph.name(counts(last))
    return graph


class NasBench201Accuracies(PublishedAccuracies):
    """The published accuracies of all cells of three sums, on three data sets."""

    title = "NAS-Bench-201"
    datasets: ClassVar = {
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "imagenet": "ImageNet-16-120",
    }
    count = 15_625
    needs = "the space nasbench201 with 3 nodes (presets/nasbench201.yaml)"
    selection = "rarer functions"
    key_note = (
        "Cell: the operations of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; 0: none, 1: skip "
        "connection, 2: convolution 1x1, 3: convolution 3x3, 4: average pooling 3x3. Accuracy: "
        "on the validation images, the mean of all published runs."
    )

    def key(self, block: Block) -> str:
        """Return a digit for the operation of each edge."""
        try:
            return Cell(block.nodes).key
        except ValueError:  # no edge has such an operation
            return ""

    def accuracies(self, dataset: str) -> Mapping[str, float]:
        """Return the accuracies on "cifar10", "cifar100" or "imagenet" (ImageNet-16-120)."""
        return {key: entry.accuracy for key, entry in published(dataset).items()}


@dataclass(frozen=True)
class NasBench201:
    """Cells stacked in stages, with a residual reduction before each stage except the first.

    Attributes:
        operations: names of the operations that an edge may have, from `EDGES`.
        blocks: number of times the cell is stacked (15: three stages of 5).
        channels: channels of the first stage (16).
        reductions: cells, counted from 1, with a reduction before them (6 and 11).
        stem_multiplier: ratio of the channels of the stem to those of the first stage.
        classes: number of classes.
    """

    operations: tuple[str, ...]
    blocks: int
    channels: int
    reductions: tuple[int, ...]
    stem_multiplier: int
    classes: int

    scales = (1,)
    exits = 0

    @property
    def node_types(self) -> tuple[str, ...]:
        """Every operation that a node of a network of this space can have, in a fixed order."""
        others = ("input", "identity", "reduce_3x3", "conv_3x3", "downsample", "norm")
        return tuple(dict.fromkeys([*self.operations, *others, "stem", "classifier"]))

    def examples(self, nodes: int) -> list[Block]:
        """Return for each operation the cell of `nodes` sums that has it on all edges.

        Together they use every weight that any cell of so many sums uses.
        """
        return [Cell.of([op] * (nodes * (nodes + 1) // 2)) for op in self.operations]

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a random cell of `nodes` sums, or with `fewer` of at most so many."""
        nodes = rng.randint(1, nodes) if fewer else nodes
        return Cell.of([rng.choice(self.operations) for _ in range(nodes * (nodes + 1) // 2)])

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield all cells of `nodes` sums in random order.

        Cells with the same function are all yielded, because each has accuracies of its own.
        """
        cells = list(product(self.operations, repeat=nodes * (nodes + 1) // 2))
        rng.shuffle(cells)
        yield from map(Cell.of, cells)

    def read(self, value: object) -> Block:
        """Read a cell of this space from JSON.

        Raises:
            UserError: the value is not a cell of this space.
        """
        block = Block.from_json(value, self.node_types)
        try:
            cell = Cell.of(Cell(block.nodes).edges)
        except ValueError as error:
            raise UserError(f"not a cell: {error}") from error
        unknown = set(cell.edges) - set(self.operations)
        if cell.nodes != block.nodes or unknown or len(cell.edges) > NODES * (NODES + 1) // 2:
            raise UserError(
                f"a cell of this space is an input and, for each of 1 to {NODES} sums, an "
                "operation for every earlier one and the identity that reads these: "
                f"not {block.shown}"
            )
        return cell

    def mutate(self, rng: Random, block: Block) -> Block:
        """Change the operation of one edge, and of further edges until the function changes."""
        edges = list(Cell(block.nodes).edges)
        while True:
            edge = rng.randrange(len(edges))
            edges[edge] = rng.choice([op for op in self.operations if op != edges[edge]])
            mutant = Cell.of(edges)
            if mutant.hash != block.hash:
                return mutant

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain stem, cells and reductions, batch norm, classifier."""
        channels, scale = self.channels, 1
        chain = [Module(STEM, channels * self.stem_multiplier, scale, (-1,))]
        for i in range(1, self.blocks + 1):
            last = len(chain) - 1
            if i in self.reductions:
                channels, scale = 2 * channels, 2 * scale
                chain.append(Module(REDUCTION, channels, scale, (last, last)))
            chain.append(Module(block, channels, scale, (len(chain) - 1,), number=i))
        chain.append(Module(NORM, channels, scale, (len(chain) - 1,)))
        chain.append(Module(CLASSIFIER, self.classes, scale, (len(chain) - 1,)))
        return tuple(chain)


def _stem(network: Macro, proxies: Proxies) -> list[str]:
    """Return a fault for a wider stem, whose output the first cell could not add to its own."""
    stacks = {"network": network, "proxies.network": proxies.network}
    return [
        f"{key}.stem_multiplier: must be 1 for nasbench201"
        for key, stack in stacks.items()
        if stack and stack.stem_multiplier > 1
    ]


def _published(
    space: "NasBench201Settings", correlation: Correlation, benchmark: Benchmark
) -> list[str]:
    if not benchmark.curve:
        return []
    faults = []
    if space.nodes != NODES:
        faults.append(f"benchmark.curve: must be 0 unless space.nodes is {NODES}, as published")
    if correlation.selection < 3:
        faults.append("benchmark.curve: correlation.selection must be 3 or more")
    return faults


class NasBench201Settings(SpaceSettings):
    """The settings of the search space of NAS-Bench-201."""

    makes = NasBench201
    known = EDGES
    chapters = ("benchmark", "ablations", "claims")
    presets = ("nasbench201", "nasbench201-long")
    size = "images_note"  # its truth is published, not trained here
    agreements = (_stem, _published)

    name: Literal["nasbench201"]
    max_inputs: None = None
    exits: None = None

    def published(self, table: str) -> PublishedAccuracies:
        """Return the accuracies, which come in a package."""
        return NasBench201Accuracies()

    def faults(self) -> list[str]:
        """Return a fault if an operation is listed twice, or no published cell has the size."""
        sizes = [] if 2 <= self.nodes <= NODES else ["nodes: a cell of nasbench201 has 2 or 3"]
        return super().faults() + sizes
