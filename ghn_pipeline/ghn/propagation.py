"""Message passing on block graphs: the graph neural network G of Eq. 3 to 5 and 15.

Shapes: B architectures, V nodes of a block (padded to the largest), D numbers of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ghn_pipeline.space.graph import Block


@dataclass(frozen=True)
class Graphs:
    """A batch of block graphs as tensors; the same shapes for all graphs of a size.

    Nodes of one depth exchange no message, so they are updated together. The result is exactly
    that of updating them one after another.

    Attributes:
        edges: [B, V, V], 1 where the row's node reads the column's.
        entries: [B, V, 1], 1 for the nodes that read another module.
        real: [B, V, 1], 1 for nodes, 0 for padding.
        forward: masks [B, V, 1] of the nodes to update, by growing depth.
        backward: the same by falling depth, without the last node: it is not visited twice
            (Eq. 15: 2|V| - 1 updates).
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
    """G: a GRU cell as U (Eq. 3) and a two-layer MLP as M (Eq. 4), both of section 5.1.1."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, size))
        self.cell = nn.GRUCell(size, size)

    def forward(
        self, h: Tensor, graphs: Graphs, passed: Tensor, passes: int, scheme: str
    ) -> Tensor:
        """Propagate `passes` times (T).

        Args:
            h: initial embeddings [B, V, D].
            graphs: the block graphs.
            passed: embedding of the previous module [B, 1, D] (Eq. 14), zero for none. Input
                nodes receive it as their message along forward edges.
            passes: T; one pass is one forward-backward phase, or one synchronous step.
            scheme: "forward-backward" (Eq. 15) or "synchronous" (Eq. 3, all nodes active, edges
                in both directions).

        Returns:
            Embeddings [B, V, D].
        """
        forth, back = graphs.edges, graphs.edges.mT
        outer = graphs.entries * passed
        for _ in range(passes):
            if scheme == "synchronous":
                h = self.updated(h, forth + back, outer)
                continue
            for active in graphs.forward:
                h = torch.where(active, self.updated(h, forth, outer), h)
            for active in graphs.backward:
                h = torch.where(active, self.updated(h, back), h)
        return h

    def updated(self, h: Tensor, edges: Tensor, outer: Tensor | None = None) -> Tensor:
        """Return U(h, m) for every node, m the sum of M(h) over the nodes it reads (Eq. 3, 4)."""
        m = edges @ self.message(h)
        if outer is not None:
            m = m + outer
        new: Tensor = self.cell(m.flatten(0, 1), h.flatten(0, 1))
        return new.view_as(h)
