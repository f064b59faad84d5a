"""What a search space is, and what its entry says; everything else works with any."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field, ValidationInfo, field_validator

from ghn_pipeline.model.graph import Block, Module
from ghn_pipeline.settings.sections import Macro, Name, Nodes, Section
from ghn_pipeline.system.errors import did_you_mean


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


#: What sections of the configuration must say together: a function of those that its parameters
#: name, to one line for each fault.
Agreement = Callable[..., list[str]]


class SpaceSettings(Section):
    """The section `space`. Each space has a subclass, which says all that others know of it.

    Its fields are the settings of the space. A setting that another space has, and this one lacks,
    is null.

    Attributes:
        makes: what stacks the blocks, from `operations` (names), `blocks`, `channels`,
            `reductions`, `stem_multiplier` and `classes`, and from the settings of its own.
        known: the names of the operations that its nodes may have.
        chapters: the tables and figures that it has; an engine is asked for one by its name.
        presets: its presets for a laptop, the first of which a newcomer is pointed to.
        size: which of the configuration's notes says how large the whole is.
        agreements: what the space needs of other sections.
    """

    makes: ClassVar[Callable[..., Space]]
    known: ClassVar[tuple[str, ...]]
    chapters: ClassVar[tuple[str, ...]]
    presets: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[str] = "scale_note"
    agreements: ClassVar[tuple[Agreement, ...]] = ()

    name: str
    nodes: Nodes
    max_inputs: Annotated[int, Field(ge=1, le=1000)] | None = None
    exits: Nodes | None = None
    operations: Annotated[list[Name], Field(min_length=2, max_length=100)]

    @field_validator("operations")
    @classmethod
    def _are_known(cls, operations: list[str], others: ValidationInfo) -> list[str]:
        if unknown := [op for op in operations if op not in cls.known]:
            near = did_you_mean(unknown[0], cls.known)
            raise ValueError(f"{others.data.get('name')} has no {', '.join(unknown)}{near}")
        return operations

    def faults(self) -> list[str]:
        """An operation twice."""
        twice = len(set(self.operations)) < len(self.operations)
        return ["operations: an operation is listed twice"] if twice else []

    def make(self, network: Macro, classes: int, weights: Mapping[str, int] | None = None) -> Space:
        """Return the search space.

        Args:
            network: how its blocks are stacked.
            classes: number of classes.
            weights: an operation is drawn so many times as often as one that is not named here.
                Networks are the same.
        """
        listed = [op for op in self.operations for _ in range((weights or {}).get(op, 1))]
        own: dict[str, Any] = self.model_dump(
            exclude={"name", "nodes", "operations"}, exclude_none=True
        )
        return type(self).makes(
            operations=tuple(listed),
            blocks=network.blocks,
            channels=network.channels,
            reductions=tuple(network.reductions),
            stem_multiplier=network.stem_multiplier,
            classes=classes,
            **own,
        )


def different(draw: Callable[[], Block]) -> Iterator[Block]:
    """Yield what is drawn, no two isomorphic, until 1000 draws have given no new one."""
    seen: set[str] = set()
    while block := next((b for b in (draw() for _ in range(1000)) if b.hash not in seen), None):
        seen.add(block.hash)
        yield block
