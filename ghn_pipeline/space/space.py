"""What a search space is: everything else works with any."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

from ghn_pipeline.model.graph import Block, Module


class Space(Protocol):
    """Blocks that can be searched, and how a block is stacked into a network."""

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations that are searched."""

    @property
    def node_types(self) -> tuple[str, ...]:
        """Every operation that a node of a network can have, in a fixed order."""

    @property
    def scales(self) -> tuple[int, ...]:
        """Every scale that a node can have, in a fixed order."""

    @property
    def exits(self) -> int:
        """How many nodes of a network have early exits."""

    def examples(self, nodes: int) -> list[Block]:
        """Return blocks that hold between them every weight that one of `nodes` can ask for."""

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a block of `nodes` computed nodes at random; where `fewer`, of so many at most."""

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield blocks of `nodes` computed nodes at random, none twice."""

    def read(self, value: object) -> Block:
        """Read a block of this space from JSON.

        Raises:
            UserError: it is not a block, or not one of this space.
        """

    def mutate(self, rng: Random, block: Block) -> Block:
        """Change an operation or an input of a block, or a few."""

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain of modules of the network that stacks `block`."""


def different(draw: Callable[[], Block]) -> Iterator[Block]:
    """Yield what is drawn, no two isomorphic, until 1000 draws have given no new one."""
    seen: set[str] = set()
    while block := next((b for b in (draw() for _ in range(1000)) if b.hash not in seen), None):
        seen.add(block.hash)
        yield block
