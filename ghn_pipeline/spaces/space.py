"""The interface of a search space and of its settings; the rest of the package needs no more."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field, ValidationInfo, field_validator

from ghn_pipeline.model.graph import Block, Module
from ghn_pipeline.settings.sections import Macro, Name, Nodes, Section
from ghn_pipeline.spaces.published import PublishedAccuracies
from ghn_pipeline.system.errors import did_you_mean


class Space(Protocol):
    """A search space: its blocks, and the way to stack a block into a network."""

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the searched operations."""

    @property
    def classes(self) -> int:
        """The number of classes."""

    @property
    def node_types(self) -> tuple[str, ...]:
        """Every operation that a node of a network can have, in a fixed order."""

    @property
    def scales(self) -> tuple[int, ...]:
        """Every scale that a node can have, in a fixed order."""

    @property
    def exits(self) -> int:
        """The number of nodes of a network that have early exits."""

    def examples(self, nodes: int) -> list[Block]:
        """Return blocks that together use every weight that any block of `nodes` nodes uses."""

    def sample(self, rng: Random, nodes: int, *, fewer: bool = False) -> Block:
        """Draw a random block of `nodes` computed nodes, or with `fewer` of at most so many."""

    def draws(self, rng: Random, nodes: int) -> Iterator[Block]:
        """Yield random blocks of `nodes` computed nodes, none twice."""

    def read(self, value: object) -> Block:
        """Read a block of this space from JSON.

        Raises:
            UserError: the value is not a block of this space.
        """

    def mutate(self, rng: Random, block: Block) -> Block:
        """Change one or a few operations or inputs of a block."""

    def modules(self, block: Block) -> tuple[Module, ...]:
        """Return the chain of modules of the network that stacks `block`."""


#: A check of sections against one another: its parameters name the sections, and it returns one
#: line for each fault.
Agreement = Callable[..., list[str]]


class SpaceSettings(Section):
    """The section `space`. Each space has a subclass, the only part that others read.

    Its fields are the settings of the space. A setting that this space lacks, and another has, is
    null.

    Attributes:
        makes: the constructor of the space, from `operations` (names), `blocks`, `channels`,
            `reductions`, `stem_multiplier` and `classes`, and from the settings of its own.
        known: the names of the operations that its nodes may have.
        chapters: the names of its groups of tables and figures, which engines take as targets.
        presets: its presets for a laptop; messages name the first.
        size: the name of the configuration's note on the size of the whole workflow.
        agreements: the checks of other sections that the space needs.
        table: where to get the file of published accuracies that `benchmark.table` names, "" if the
            space takes none.
    """

    makes: ClassVar[Callable[..., Space]]
    known: ClassVar[tuple[str, ...]]
    chapters: ClassVar[tuple[str, ...]]
    presets: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[str] = "scale_note"
    agreements: ClassVar[tuple[Agreement, ...]] = ()
    table: ClassVar[str] = ""

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
            name = others.data.get("name")
            raise ValueError(
                f"{name} has no {', '.join(unknown)}{near}; it has {', '.join(cls.known)}"
            )
        return operations

    def faults(self) -> list[str]:
        """Return a fault if an operation is listed twice."""
        twice = len(set(self.operations)) < len(self.operations)
        return ["operations: an operation is listed twice"] if twice else []

    def published(self, table: str) -> PublishedAccuracies | None:
        """Return the accuracies that others published for architectures of the space, if any.

        Args:
            table: the path `benchmark.table`.

        Raises:
            UserError: the file at `table` cannot be read, or has faults.
        """
        return None

    def make(self, network: Macro, classes: int, weights: Mapping[str, int] | None = None) -> Space:
        """Return the search space.

        Args:
            network: the stack of its blocks.
            classes: number of classes.
            weights: by operation, how many times as often it is drawn as one without a weight.
                The weights do not change the networks.
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
    """Yield drawn blocks, no two isomorphic, until 1000 draws in a row give no new one."""
    seen: set[str] = set()
    while block := next((b for b in (draw() for _ in range(1000)) if b.hash not in seen), None):
        seen.add(block.hash)
        yield block
