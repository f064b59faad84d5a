"""A search space of chains: each node reads the one before it."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Literal

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.spaces.classification import INPUTS, Classification
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.spaces.space import SpaceSettings, different
from ghn_pipeline.system.errors import UserError


class Chain(Classification):
    """Blocks that are chains, stacked as in the paper."""

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw the operation of each node."""
        nodes = rng.randint(1, nodes) if fewer else nodes
        return chain([rng.choice(self.operations) for _ in range(nodes)])

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield random chains, none twice."""
        return different(lambda: self.sample(rng, nodes))

    def read(self, value: object) -> Block:
        """Read a chain from JSON."""
        block = Block.from_json(value, self.node_types)
        if block != chain([node.op for node in block.nodes[len(INPUTS) :]]):
            raise UserError(f"not a chain: {block.shown}")
        return block

    def mutate(self, rng: Random, block: Block) -> Block:
        """Change the operation of one node."""
        v = rng.randrange(len(INPUTS), len(block.nodes))
        op = rng.choice([op for op in self.operations if op != block.nodes[v].op])
        return Block((*block.nodes[:v], replace(block.nodes[v], op=op), *block.nodes[v + 1 :]))


def chain(operations: list[str]) -> Block:
    """Return the chain of these operations, the first of which reads both inputs."""
    reads = [(0, 1), *((v,) for v in range(len(INPUTS), len(INPUTS) + len(operations) - 1))]
    return Block(INPUTS + tuple(Node(op, r) for op, r in zip(operations, reads, strict=True)))


class ChainSettings(SpaceSettings):
    """The section `space` of chains."""

    makes = Chain
    known = ("identity", "conv_1x1", "max_pool_3x3", "half")
    chapters = ("agreement",)

    name: Literal["chain"]
    max_inputs: Literal[2]  # of the blocks that are chained


SPACES["chain"] = ChainSettings
