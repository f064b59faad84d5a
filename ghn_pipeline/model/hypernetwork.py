"""The hypernetwork H of Eq. 6 and 8: one two-layer MLP with an output branch per weight shape."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Hypernetwork(nn.Module):
    """Generates weights from embeddings of nodes, or of edges for a weight per incoming edge.

    Args:
        size: D, the length of an embedding.
        hidden: units of the hidden layer (64, section 5.1.1).
        branches: the shape of the largest weight of each branch.
    """

    def __init__(self, size: int, hidden: int, branches: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.node = nn.Linear(size, hidden)
        self.edge = nn.Linear(2 * size, hidden)
        bound = 1 / math.sqrt(hidden)  # the bound of nn.Linear
        self.kernels = nn.ParameterDict(
            {
                b: torch.empty(*shape, hidden).uniform_(-bound, bound)
                for b, shape in branches.items()
            }
        )
        self.offsets = nn.ParameterDict(
            {b: torch.empty(*shape).uniform_(-bound, bound) for b, shape in branches.items()}
        )

    def forward(self, rows: Tensor, branch: str, shape: Sequence[int], fan_in: Tensor) -> Tensor:
        """Generate weights of one branch and shape.

        Args:
            rows: [n, hidden], the hidden layer for each weight.
            branch: the output to slice.
            shape: shape of each weight, a slice of leading channels and a central window.
            fan_in: [n]; each weight is scaled by sqrt(2 / fan-in) (GHN-2, Knyazev et al. 2021).

        Returns:
            [n, *shape].
        """
        window = central_window(self.offsets[branch].shape, shape)
        # slicing before the product generates only the numbers in use
        kernel = self.kernels[branch][window].flatten(0, -2)
        weights = torch.addmm(self.offsets[branch][window].flatten(), rows, kernel.T)
        return (weights * torch.sqrt(2 / fan_in)[:, None]).view(-1, *shape)


def central_window(full: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return slices that cut a weight of `shape` out of one of shape `full`.

    Raises:
        ValueError: the smaller shape does not fit into the larger.
    """
    if len(full) != len(shape) or any(s > f for s, f in zip(shape, full, strict=True)):
        raise ValueError(f"a weight of shape {tuple(shape)} does not fit into {tuple(full)}")
    starts = [
        0 if i < 2 else (f - s) // 2 for i, (f, s) in enumerate(zip(full, shape, strict=True))
    ]
    return tuple(slice(start, start + s) for start, s in zip(starts, shape, strict=True))
