"""Message passing on block graphs: the graph neural network G of Eq. 3 to 5 and 15.

Letters: B architectures, V nodes of a block (padded to the largest), D the length of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.recurrence import Recurrence


@dataclass(frozen=True)
class Graphs:
    """A batch of block graphs as tensors.

    Nodes of one depth exchange no messages, so they are updated together; the result is exactly
    that of updating them one after another.

    Attributes:
        edges: [B, V, V], 1 if the row's node reads the column's.
        entries: [B, V, 1], 1 for the nodes that read another module.
        real: [B, V, 1], 1 for nodes, 0 for padding.
        forward: masks [B, V, 1] of the nodes to update, by growing depth.
        backward: the same masks by falling depth, without the last node, which is not visited
            twice (Eq. 15: 2|V| - 1 updates).
    """

    edges: Tensor
    entries: Tensor
    real: Tensor
    forward: tuple[Tensor, ...]
    backward: tuple[Tensor, ...]

    @classmethod
    def of(cls, blocks: Sequence[Block], device: torch.device | str = "cpu") -> "Graphs":
        """Build the tensors for `blocks` on `device`."""
        V = max(len(block.nodes) for block in blocks)
        edges = torch.zeros(len(blocks), V, V)
        entries = torch.zeros(len(blocks), V, 1)
        depths = torch.full((len(blocks), V, 1), -1)
        last = torch.zeros(len(blocks), V, 1, dtype=torch.bool)
        for b, block in enumerate(blocks):
            for v, node in enumerate(block.nodes):
                edges[b, v, list(node.inputs)] = 1
                entries[b, v] = not node.inputs
                depths[b, v] = block.depths[v]
            last[b, len(block.nodes) - 1] = True
        levels = range(int(depths.max()) + 1)
        forward = [(depths == level).to(device) for level in levels]
        backward = [((depths == level) & ~last).to(device) for level in reversed(levels)]
        return cls(
            edges.to(device),
            entries.to(device),
            (depths >= 0).float().to(device),
            tuple(forward),
            tuple(mask for mask in backward if mask.any()),
        )


class Propagation(nn.Module):
    """G: a GRU cell as U (Eq. 3) and a two-layer MLP as M (Eq. 4), both of section 5.1.1.

    M is `second(relu(first(h)))`.
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, hidden), nn.Linear(hidden, size)
        self.cell = nn.GRUCell(size, size)

    def forward(
        self, h: Tensor, graphs: Graphs, passed: Tensor, passes: int, scheme: str
    ) -> Tensor:
        """Propagate `passes` times (T).

        Args:
            h: initial embeddings [B, V, D].
            graphs: the block graphs.
            passed: embedding of the previous module [B, 1, D] (Eq. 14), or zero. Input nodes
                receive it as their message along forward edges.
            passes: T; one pass is one forward-backward phase, or one synchronous step.
            scheme: "forward-backward" (Eq. 15) or "synchronous" (Eq. 3, all nodes active, edges
                in both directions).

        Returns:
            Embeddings [B, V, D].
        """
        if scheme == "synchronous":
            edges = graphs.edges + graphs.edges.mT
            updates = [(True, graphs.real.bool())]
        else:
            edges = graphs.edges
            updates = [(True, m) for m in graphs.forward] + [(False, m) for m in graphs.backward]
        last: Tensor = Recurrence.apply(  # type: ignore[no-untyped-call]
            h.flatten(0, 1),
            self._constant(edges, graphs.entries * passed),
            self._constant(edges.mT),
            self.first.weight,
            self.first.bias,
            self.cell.weight_ih @ self.second.weight,
            self.cell.weight_hh,
            self.cell.bias_hh,
            edges,
            [(forward, active.flatten(0, 1)) for forward, active in updates] * passes,
            torch.is_grad_enabled(),
        )
        return last.view_as(h)

    def _constant(self, edges: Tensor, outer: Tensor | float = 0.0) -> Tensor:
        """Return the part of the input gates that does not depend on hidden messages, [n, 3D].

        The map from the hidden layer of M to the gates of U is linear, so the last bias of M counts
        once for each edge, and a message from outside is added as it is.
        """
        m = edges.sum(2, keepdim=True) * self.second.bias + outer
        return F.linear(m, self.cell.weight_ih, self.cell.bias_ih).flatten(0, 1)
