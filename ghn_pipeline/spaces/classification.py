"""The search space of the classification experiments (sections 5.1.1 and 7.1)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from ghn_pipeline.model.graph import Block, Module, Node
from ghn_pipeline.spaces.space import SpaceSettings, different
from ghn_pipeline.system.errors import UserError

INPUTS = (Node("input_1"), Node("input_2"))
STEM = Block((Node("stem"),))
CLASSIFIER = Block((Node("classifier"),))


@dataclass(frozen=True)
class Classification:
    """Blocks of operation nodes over two input nodes, stacked into one network.

    Attributes:
        operations: names of the operations that a node may have (section 7.1).
        max_inputs: the most earlier nodes that a node reads; 1 to this many are equally likely.
        blocks: number of times the block is stacked (18, section 5.1.1).
        channels: F, the channels in the first blocks (32, Table 1).
        reductions: blocks, counted from 1, that halve the side and double the channels.
        stem_multiplier: ratio of the channels of the stem to F.
        classes: number of classes.
        stem_stride: stride of the stem (2 for ImageNet, section 5.1.2).
    """

    operations: tuple[str, ...]
    max_inputs: int
    blocks: int
    channels: int
    reductions: tuple[int, ...]
    stem_multiplier: int
    classes: int
    stem_stride: int = 1

    scales = (1,)
    exits = 0

    @property
    def node_types(self) -> tuple[str, ...]:
        """Every operation that a node of a network of this space can have, in a fixed order."""
        return (*self.operations, "input_1", "input_2", "stem", "classifier")

    def examples(self, nodes: int) -> list[Block]:
        """Return a block for each operation, of `nodes` nodes that are all leaves.

        Together they use every weight that any block of so many nodes uses.
        """
        return [Block(INPUTS + (Node(op, (0, 1)),) * nodes) for op in self.operations]

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a random block of `nodes` operation nodes (section 5.1.1: 17).

        A block ingests both of its inputs (section 7.1); blocks that ignore one are drawn again.
        With `fewer` it has from 2 to `nodes` nodes.
        """
        nodes = rng.randint(2, nodes) if fewer else nodes
        while True:
            drawn = list(INPUTS)
            for v in range(len(INPUTS), len(INPUTS) + nodes):
                count = rng.randint(1, min(self.max_inputs, v))
                inputs = tuple(sorted(rng.sample(range(v), count)))
                drawn.append(Node(rng.choice(self.operations), inputs))
            if ingests_both(block := Block(tuple(drawn))):
                return block

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield random blocks, no two isomorphic, until 1000 draws in a row give no new one."""
        return different(lambda: self.sample(rng, nodes))

    def read(self, value: object) -> Block:
        """Read a block of this space from JSON.

        Raises:
            UserError: the value is not a block of this space.
        """
        block = Block.from_json(value, self.node_types)
        inputs, computed = block.nodes[: len(INPUTS)], block.nodes[len(INPUTS) :]
        wrong = inputs != INPUTS or any(
            not 0 < len(node.inputs) <= self.max_inputs
            or node.op not in self.operations
            or node.label != node.op  # a scale or an exit
            for node in computed
        )
        if wrong:
            raise UserError(
                "a block of this space starts with the nodes input_1 and input_2; every other node "
                f"is one of {', '.join(self.operations)} and reads 1 to {self.max_inputs}: "
                f"not {block.shown}"
            )
        return block

    def mutate(self, rng: Random, block: Block) -> Block:
        """Change the operation or one input of one node, as regularised evolution does."""
        while True:
            v = rng.randrange(len(INPUTS), len(block.nodes))
            node = block.nodes[v]
            unread = [u for u in range(v) if u not in node.inputs]
            if unread and rng.random() < 0.5:
                dropped = rng.choice(node.inputs)
                inputs = (set(node.inputs) - {dropped}) | {rng.choice(unread)}
                changed = replace(node, inputs=tuple(sorted(inputs)))
            else:
                others = [op for op in self.operations if op != node.op]
                changed = replace(node, op=rng.choice(others))
            mutant = Block((*block.nodes[:v], changed, *block.nodes[v + 1 :]))
            if ingests_both(mutant):
                return mutant

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain stem, blocks, classifier.

        Block i reads blocks i-1 and i-2; the stem takes the place of blocks before the first. All
        are one object, `block.canonical`, so that a network does not depend on the order in which
        the block lists its nodes.
        """
        chain = [Module(STEM, self.channels * self.stem_multiplier, self.stem_stride, (-1,))]
        for i in range(1, self.blocks + 1):
            double = 2 ** sum(i >= reduction for reduction in self.reductions)
            channels, scale = self.channels * double, self.stem_stride * double
            sources = (i - 1, max(i - 2, 0))
            chain.append(Module(block.canonical, channels, scale, sources, number=i))
        chain.append(Module(CLASSIFIER, self.classes, chain[-1].scale, (self.blocks,)))
        return tuple(chain)


def ingests_both(block: Block) -> bool:
    """Return whether a block reads both inputs, so that the network uses every block."""
    return all(block.children[v] for v in range(len(INPUTS)))


class ClassificationSettings(SpaceSettings):
    """The settings of the search space of section 7.1."""

    makes = Classification
    known = (
        "identity",
        "conv_1x1",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "conv_1x7_7x1",
        "max_pool_3x3",
        "avg_pool_3x3",
    )
    chapters = (
        "correlation",
        "ablations",
        "architecture_search",
        "transfer",
        "memory",
        "claims",
    )
    presets = ("quick", "smoke")

    name: Literal["classification"]
    max_inputs: Annotated[int, Field(ge=1, le=1000)]
    exits: None = None
