"""Block graphs, the architectures of a search, as plain immutable data without tensors."""

import json
import reprlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from ghn_pipeline.model.isomorphism import Form, canonical_form
from ghn_pipeline.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The most nodes of a block that is read; the paper's have at most 54. Hashing a much larger block
#: can take hours.
MOST_NODES = 200


@dataclass(frozen=True)
class Node:
    """One computation: the name of its operation and the nodes of its block that it reads.

    A node without inputs reads the output of another module (section 7.1: the two input nodes).

    Attributes:
        op: key of `operations.OPERATIONS`.
        inputs: the nodes of its block that it reads.
        scale: ratio of its module's side to the side of its output; its inputs are pooled or
            upsampled to it (section 5.2).
        exit: whether an early-exit classifier reads it (section 5.2).
    """

    op: str
    inputs: tuple[int, ...] = ()
    scale: int = 1
    exit: bool = False

    @property
    def label(self) -> str:
        """The name of its kind: the operation, in an anytime space with scale and exit."""
        return self.op + (f"/{self.scale}" if self.scale > 1 else "") + "/exit" * self.exit


@dataclass(frozen=True)
class Block:
    """A directed acyclic graph A = (V, E) of section 4.1, its nodes in topological order.

    Raises:
        ValueError: an input is not an earlier node, or is listed twice.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for v, node in enumerate(self.nodes):
            if len(set(node.inputs)) < len(node.inputs) or any(not 0 <= u < v for u in node.inputs):
                read = reprlib.repr(node.inputs)
                raise ValueError(
                    f"node {v} ({node.op}) must read distinct earlier nodes, not {read}"
                )

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it."""
        return tuple(
            tuple(w for w, node in enumerate(self.nodes) if v in node.inputs)
            for v in range(len(self.nodes))
        )

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The nodes whose concatenated outputs are the block's output (section 7.1).

        They are the nodes that no other node reads; input nodes count only if there are no others.
        """
        loose = [v for v, readers in enumerate(self.children) if not readers]
        computed = tuple(v for v in loose if self.nodes[v].inputs)
        return computed or tuple(loose)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """The length of the longest path to each node; nodes of one depth exchange no messages."""
        depths: list[int] = []
        for node in self.nodes:
            depths.append(1 + max((depths[u] for u in node.inputs), default=-1))
        return tuple(depths)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The graph as numbers: how many nodes V, 2V + 1 places, and a list.

        What node v reads stands in the list from place v to before place v + 1, and what reads it
        from place V + v.
        """
        rows = [*(node.inputs for node in self.nodes), *self.children]
        places = accumulate(map(len, rows), initial=0)
        return (len(self.nodes), *places, *chain.from_iterable(rows))

    @cached_property
    def hash(self) -> str:
        """A hash of 16 hex digits, equal for blocks that are isomorphic with equal labels only."""
        return self._form.hash

    @cached_property
    def canonical(self) -> "Block":
        """The block with its nodes in an order that is the same for all isomorphic blocks.

        The weights that a GHN generates depend on the order of nodes, because Eq. 15 does not visit
        the last node twice. Nodes are sorted by depth and then by their number in the canonical
        form, so nodes without inputs come first, sorted by their labels.
        """
        keys = list(zip(self.depths, self._form.numbers, strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        place = {v: i for i, v in enumerate(order)}
        nodes = [self.nodes[v] for v in order]
        reads = [tuple(sorted([place[u] for u in node.inputs])) for node in nodes]
        return Block(
            tuple(Node(n.op, us, n.scale, n.exit) for n, us in zip(nodes, reads, strict=True))
        )

    @cached_property
    def _form(self) -> Form:
        return canonical_form([n.label for n in self.nodes], [n.inputs for n in self.nodes])

    def draw(self) -> "Figure":
        """Return a drawing of the block (Figure 7): its nodes, edges and output."""
        from ghn_pipeline.report.paper.figure7 import figure7  # loads Matplotlib, a second

        return figure7(self, title_lines=[f"Block {self.hash}"], scale_note="")

    def to_json(self) -> list[list[object]]:
        """Return the block as `[[operation, [inputs]], ...]`, with scales and exits if any."""
        plain = all(node.label == node.op for node in self.nodes)
        return [[n.op, list(n.inputs), *([] if plain else [n.scale, n.exit])] for n in self.nodes]

    @property
    def shown(self) -> str:
        """The beginning of its JSON, for a message."""
        return textwrap.shorten(json.dumps(self.to_json()), 300, placeholder=" ...")

    @classmethod
    def from_json(cls, value: object, known: Sequence[str]) -> "Block":
        """Read a block that `to_json` wrote.

        Raises:
            UserError: the value is not a block, has more than `MOST_NODES` nodes, or has an
                operation outside `known`.
        """
        if not isinstance(value, list):
            raise UserError(f"not a block, [[operation, [inputs]], ...]: {reprlib.repr(value)}")
        if not value:
            raise UserError("not a block: it has no nodes")
        if len(value) > MOST_NODES:
            raise UserError(f"not a block: it has {len(value):,} nodes, more than {MOST_NODES:,}")
        try:
            block = cls(tuple(map(_node, value)))
        except (TypeError, ValueError) as error:
            raise UserError(f"not a block, [[operation, [inputs]], ...]: {error}") from error
        if unknown := sorted({n.op for n in block.nodes} - set(known)):
            listed = textwrap.shorten(", ".join(unknown), 100, placeholder=" ...")
            raise UserError(
                f"unknown operations {listed}{did_you_mean(unknown[0], known)} in {block.shown}; "
                f"this space has {', '.join(known)}"
            )
        return block


def _node(entry: object) -> Node:
    if not isinstance(entry, list) or len(entry) not in (2, 4):
        raise TypeError(f"a node is [operation, [inputs]], not {reprlib.repr(entry)}")
    op, inputs, scale, exit = (*entry, 1, False)[:4]
    if not isinstance(op, str) or not isinstance(inputs, list):
        raise TypeError(f"a node is [operation, [inputs]], not {reprlib.repr(entry)}")
    if any(type(u) is not int for u in inputs):  # true is an int too
        raise TypeError(f"inputs are whole numbers, not {reprlib.repr(inputs)}")
    if type(scale) is not int or scale < 1 or type(exit) is not bool:
        shown = f"{reprlib.repr(scale)}, {reprlib.repr(exit)}"
        raise TypeError(f"a scale is a whole number and an exit true or false, not {shown}")
    return Node(op, tuple(inputs), scale, exit)


@dataclass(frozen=True)
class Module:
    """One link of the chain that makes a network: stem, block or classifier (section 4.3).

    Attributes:
        block: the graph computed here.
        channels: output channels of each of its nodes.
        scale: ratio of the side of the network's input to the side of such a node's output.
        sources: for each node without inputs, in order, the module it reads; -1 is the image.
        classes: number of classes of its nodes' exits.
        number: number of a searched block, from 1; 0 for all other modules.
    """

    block: Block
    channels: int
    scale: int
    sources: tuple[int, ...]
    classes: int = 0
    number: int = field(default=0, compare=False)
