"""The search space of anytime prediction: scales, early exits, unequal blocks (5.2, 7.1)."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from ghn_pipeline.model.graph import Block, Module, Node
from ghn_pipeline.settings import sections
from ghn_pipeline.settings.sections import Correlation, Images, Macro, Nodes, Search
from ghn_pipeline.spaces.classification import INPUTS, STEM, ingests_both
from ghn_pipeline.spaces.space import SpaceSettings, different
from ghn_pipeline.system.errors import UserError


@dataclass(frozen=True)
class Anytime:
    """An architecture is a chain of unequal blocks, written one after the other in one graph.

    Each block begins with its two input nodes, at its finest scale. The first of the blocks has
    `nodes` computed nodes and the last `nodes / blocks`, in equal steps: 24, 16 and 8 (section
    5.2). The scales of a block's nodes are its finest and all coarser ones (section 7.1: 32×32,
    16×16 and 8×8 in the first block, the last two in the second, and 8×8 in the third). The last
    node always has an exit.

    The order of the nodes is the order of execution, which decides the multiply-adds before each
    exit. So blocks keep their listing, where those of the classification space take a canonical
    one.

    Attributes:
        operations: names of the operations that a node may have (section 7.1).
        max_inputs: the most earlier nodes that a node reads; 1 to this many are equally likely.
        exits: number of nodes with early exits; if there are fewer nodes, all have exits.
        blocks: number of blocks (3, section 5.2).
        channels: channels of the nodes of the first block.
        reductions: blocks, counted from 1, that leave out the finest scale and double the channels.
        stem_multiplier: ratio of the channels of the stem to those of the first block.
        classes: number of classes.
    """

    operations: tuple[str, ...]
    max_inputs: int
    exits: int
    blocks: int
    channels: int
    reductions: tuple[int, ...]
    stem_multiplier: int
    classes: int

    @property
    def node_types(self) -> tuple[str, ...]:
        """Every operation that a node of a network of this space can have, in a fixed order."""
        return (*self.operations, "input_1", "input_2", "stem")

    @property
    def scales(self) -> tuple[int, ...]:
        """Every scale that a node can have, in a fixed order."""
        return tuple(2**i for i in range(len(self.reductions) + 1))

    def scales_of(self, block: int) -> tuple[int, ...]:
        """Return the scales of the nodes of a block, counted from 0."""
        return self.scales[sum(block + 1 >= reduction for reduction in self.reductions) :]

    def examples(self, nodes: int) -> list[Block]:
        """Return an architecture for each operation, all of whose nodes are leaves with exits.

        Together they use a weight of every shape that any architecture of so many nodes uses.
        """
        return [
            joined(
                Block(
                    self._inputs(b)
                    + tuple(Node(op, (0, 1), self.scales_of(b)[0], True) for _ in range(size))
                )
                for b, size in enumerate(sizes(nodes, self.blocks))
            )
            for op in self.operations
        ]

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a random architecture whose first block has `nodes` computed nodes.

        With `fewer` each block has at most its number of nodes (section 7.2).
        """
        counts = [rng.randint(1, n) if fewer else n for n in sizes(nodes, self.blocks)]
        drawn = joined(self._block(rng, b, count) for b, count in enumerate(counts))
        *others, last = (v for v, node in enumerate(drawn.nodes) if node.inputs)
        return with_exits(drawn, {last, *rng.sample(others, min(self.exits - 1, len(others)))})

    def _inputs(self, block: int) -> tuple[Node, ...]:
        return tuple(replace(node, scale=self.scales_of(block)[0]) for node in INPUTS)

    def _block(self, rng: Random, b: int, size: int) -> Block:
        """Draw a block of `size` computed nodes."""
        while True:
            nodes = list(self._inputs(b))
            for v in range(len(INPUTS), len(INPUTS) + size):
                scale = rng.choice(self.scales_of(b))
                nodes.append(Node(rng.choice(self.operations), self._reads(rng, v), scale))
            if self._ingests(block := Block(tuple(nodes))):
                return block

    def _reads(self, rng: Random, v: int) -> tuple[int, ...]:
        """Draw the inputs of node v."""
        return tuple(sorted(rng.sample(range(v), rng.randint(1, min(self.max_inputs, v)))))

    def _ingests(self, block: Block) -> bool:
        """Return whether a block ingests both of its inputs, or has too few nodes for that."""
        few = self.max_inputs * (len(block.nodes) - len(INPUTS)) < len(INPUTS)
        return few or ingests_both(block)

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield random architectures, none isomorphic, until 1000 draws give no new one."""
        return different(lambda: self.sample(rng, nodes))

    def read(self, value: object) -> Block:
        """Read an architecture of this space from JSON.

        Raises:
            UserError: the value is not an architecture of this space.
        """
        block = Block.from_json(value, self.node_types)
        parts = split(block)
        computed = sum(bool(node.inputs) for node in block.nodes)
        wrong = (
            len(parts) != self.blocks
            or any(part.nodes[: len(INPUTS)] != self._inputs(b) for b, part in enumerate(parts))
            or any(
                not 0 < len(node.inputs) <= self.max_inputs
                or node.op not in self.operations
                or node.scale not in self.scales_of(b)
                for b, part in enumerate(parts)
                for node in part.nodes[len(INPUTS) :]
            )
            or not block.nodes[-1].exit
            or sum(node.exit for node in block.nodes) != min(self.exits, computed)
        )
        if wrong:
            raise UserError(
                f"an architecture of this space has {self.blocks} blocks. A block has the nodes "
                "input_1 and input_2 at its finest scale, and others that read 1 to "
                f"{self.max_inputs} of its nodes, at its scales, each one of "
                f"{', '.join(self.operations)}. {self.exits} have exits (all, if there are "
                f"fewer), and the last has an exit: not {block.shown}"
            )
        return block

    def mutate(self, rng: Random, block: Block) -> Block:
        """Draw the operation, scale or inputs of one node anew, or move another's exit to it."""
        while True:
            parts = split(block)
            b = rng.randrange(len(parts))
            v = rng.randrange(len(INPUTS), len(parts[b].nodes))
            changed = self._changed(rng, parts[b].nodes[v], b, v)
            parts[b] = Block((*parts[b].nodes[:v], changed, *parts[b].nodes[v + 1 :]))
            mutant = _same_exits(rng, joined(parts), block)
            if self._ingests(parts[b]) and mutant.hash != block.hash:
                return mutant

    def _changed(self, rng: Random, node: Node, b: int, v: int) -> Node:
        what = rng.choice(("op", "scale", "inputs", "exit"))
        if what == "op":
            return replace(node, op=rng.choice(self.operations))
        if what == "scale":
            return replace(node, scale=rng.choice(self.scales_of(b)))
        if what == "inputs":
            return replace(node, inputs=self._reads(rng, v))
        return replace(node, exit=True)

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain stem, blocks; block i reads blocks i-1 and i-2, or the stem before."""
        chain = [Module(STEM, self.channels * self.stem_multiplier, 1, (-1,))]
        for b, part in enumerate(split(block)):
            channels = self.channels * self.scales_of(b)[0]
            sources = (b, max(b - 1, 0))
            chain.append(Module(part, channels, 1, sources, self.classes, number=b + 1))
        return tuple(chain)


def sizes(nodes: int, blocks: int) -> list[int]:
    """Return the numbers of computed nodes of so many blocks, the first of which has `nodes`."""
    return [max(1, nodes * left // blocks) for left in range(blocks, 0, -1)]


def _same_exits(rng: Random, mutant: Block, block: Block) -> Block:
    """Remove an exit of `block` if the mutant has one more; the last exit stays."""
    before = [v for v, node in enumerate(block.nodes) if node.exit]
    exits = {v for v, node in enumerate(mutant.nodes) if node.exit}
    if len(exits) > len(before):
        exits -= {rng.choice(before[:-1])}
    return with_exits(mutant, exits)


def with_exits(block: Block, exits: Container[int]) -> Block:
    """Return the same graph with exits at these nodes and no others."""
    return Block(tuple(replace(node, exit=v in exits) for v, node in enumerate(block.nodes)))


def joined(blocks: Iterable[Block]) -> Block:
    """Join blocks into one graph with unconnected parts."""
    nodes: list[Node] = []
    for block in blocks:
        first = len(nodes)
        nodes += [replace(n, inputs=tuple(first + u for u in n.inputs)) for n in block.nodes]
    return Block(tuple(nodes))


def split(block: Block) -> list[Block]:
    """Split an architecture into its blocks, each of which begins with its first input.

    Raises:
        UserError: the first node is not that input, or a node reads a node of another block.
    """
    starts = [v for v, node in enumerate(block.nodes) if node.op == INPUTS[0].op]
    if starts[:1] != [0]:
        raise UserError(f"the first node must be {INPUTS[0].op}: not {block.shown}")
    parts = []
    for first, end in zip(starts, [*starts[1:], len(block.nodes)], strict=True):
        nodes = block.nodes[first:end]
        if any(u < first for node in nodes for u in node.inputs):
            raise UserError(f"nodes read those of their own block only: not {block.shown}")
        parts.append(
            Block(tuple(replace(n, inputs=tuple(u - first for u in n.inputs)) for n in nodes))
        )
    return parts


def _three_blocks(space: "AnytimeSettings", network: Macro) -> list[str]:
    faults = []
    nodes = sum(sizes(space.nodes, network.blocks))
    if space.exits > nodes:
        faults.append(f"space.exits: more than the {nodes} nodes of all blocks")
    if network.blocks != 3:
        faults.append("network.blocks: must be 3 for the space anytime, as in Figures 8 to 10")
    if network.reductions != [2, 3]:
        faults.append("network.reductions: must be [2, 3] for the space anytime (section 7.1)")
    return faults


def _trainings(
    anytime: sections.Anytime, images: Images, correlation: Correlation, search: Search
) -> list[str]:
    there = {
        "top": (anytime.top, search.evaluations, "search.evaluations"),
        "random": (anytime.random, correlation.drawn, "correlation.drawn"),
    }
    faults = [
        f"anytime.{key}: {max(asked)} is not below {limit} ({of})"
        for key, (asked, limit, of) in there.items()
        if max(asked) >= limit
    ]
    return faults + (
        ["anytime.batch: more than images.train"] if anytime.batch > images.train else []
    )


class AnytimeSettings(SpaceSettings):
    """The settings of the search space of anytime prediction (sections 5.2 and 7.1)."""

    makes = Anytime
    known = (
        "dense_conv_1x1",
        "dense_conv_3x3",
        "dense_conv_5x5",
        "dense_max_pool_3x3",
        "dense_avg_pool_3x3",
    )
    chapters = ("anytime_prediction", "claims")
    presets = ("anytime-quick", "anytime-smoke")
    size = "anytime_note"
    agreements = (_three_blocks, _trainings)

    name: Literal["anytime"]
    max_inputs: Annotated[int, Field(ge=1, le=1000)]
    exits: Nodes
