"""The hypernetwork H of Eq. 6 and 8: one two-layer MLP with a branch for each kind of weight."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: The weights of a branch: for each shape, the number of weights that have it.
Counts = Mapping[tuple[int, ...], int]


class Hypernetwork(nn.Module):
    """The MLP that generates weights.

    It makes the weights of a node from the node's embedding. Some operations have a weight for each
    incoming edge: it makes these from the embeddings of both ends of the edge.

    Args:
        size: D, the length of an embedding.
        hidden: units of the hidden layer (64, section 5.1.1).
        branches: the shape of the largest weight of each branch.

    Attributes:
        node: the first layer for a node.
        edge: the first layer for an edge, from the embeddings of parent and child.
        shapes: the shape of the largest weight of each branch.
        kernels: the second layer, for each branch a matrix [hidden + 1, numbers of the largest
            weight] whose last row is the bias.
    """

    def __init__(self, size: int, hidden: int, branches: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.node = nn.Linear(size, hidden)
        self.edge = nn.Linear(2 * size, hidden)
        self.shapes = {branch: tuple(shape) for branch, shape in branches.items()}
        bound = 1 / math.sqrt(hidden)  # the bound of nn.Linear
        self.kernels = nn.ParameterDict(
            {
                branch: torch.empty(hidden + 1, math.prod(shape)).uniform_(-bound, bound)
                for branch, shape in branches.items()
            }
        )

    def forward(
        self,
        nodes: Tensor,
        ends: Tensor,
        places: Tensor,
        fan_in: Tensor,
        branches: Mapping[str, Counts],
    ) -> Sequence[Tensor]:
        """Generate weights.

        Args:
            nodes: [v, D], embeddings.
            ends: [2e], the nodes at both ends of each edge.
            places: [n], the row of each weight's hidden layer: i for node i, v + i for edge i.
            fan_in: [n]; each weight is scaled by sqrt(2 / fan-in) (GHN-2, Knyazev et al. 2021).
            branches: the weights to generate, n in all. Each takes the leading channels and the
                central window of the largest weight of its branch.

        Returns:
            The n weights, each of its shape.

        Raises:
            ValueError: a shape does not fit into that of its branch.
        """
        hidden = self.node(nodes)
        if len(ends):
            # section 7.2: a weight per edge takes the activations of parent and child
            pairs = nodes[ends].view(-1, 2 * nodes.shape[1])
            hidden = torch.cat((hidden, self.edge(pairs)))
        layer = F.pad(F.relu(hidden), (0, 1), value=1.0)[places]  # the 1 is for the bias
        scaled = layer * torch.rsqrt(fan_in * 0.5)[:, None]
        wanted = [(self.shapes[branch], counts) for branch, counts in branches.items()]
        kernels = [self.kernels[branch] for branch in branches]
        made: Sequence[Tensor] = Products.apply(scaled, wanted, *kernels)  # type: ignore[no-untyped-call]
        return made


class Products(torch.autograd.Function):
    """Products of rows with windows of matrices.

    For every window, autograd would make a gradient as large as the whole matrix. Here the
    gradients of all weights of a branch are put into one tensor. Two products with this tensor are
    the gradients of the matrix and of the rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        wanted: Sequence[tuple[tuple[int, ...], Counts]],
        *kernels: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return n weights.

        Args:
            rows: [n, K], the scaled hidden layer of each weight, in the order of `wanted`.
            wanted: for each branch the shape of its largest weight, and the numbers of its weights.
            kernels: a matrix [K, numbers of the largest weight] for each branch.
        """
        ctx.save_for_backward(rows, *kernels)
        ctx.wanted = wanted
        parts = iter(rows.split_with_sizes([n for _, counts in wanted for n in counts.values()]))
        weights: list[Tensor] = []
        for kernel, (full, counts) in zip(kernels, wanted, strict=True):
            for shape, count in counts.items():
                # the window is cut first, so that the product makes no number that is not used
                made = next(parts) @ columns(kernel, full, shape)
                weights += [made.view(shape)] if count == 1 else made.view(count, *shape).unbind()
        return tuple(weights)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the rows and of the matrices."""
        rows, *kernels = ctx.saved_tensors
        left, to_rows, to_kernels = iter(grads), [], []
        totals = [sum(counts.values()) for _, counts in ctx.wanted]
        parts = rows.T.split_with_sizes(totals, 1)
        for kernel, part, n, (full, counts) in zip(kernels, parts, totals, ctx.wanted, strict=True):
            if list(counts) == [full]:
                grad = torch.stack(list(islice(left, n))).reshape(n, -1)
            else:
                grad, first = kernel.new_zeros(n, kernel.shape[1]), 0
                for shape, count in counts.items():
                    place = window(grad, full, shape, first, count)
                    torch.stack(list(islice(left, count)), out=place)
                    first += count
            to_rows.append(grad @ kernel.T)
            to_kernels.append(part @ grad)
        return torch.cat(to_rows), None, *to_kernels


def columns(kernel: Tensor, full: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return the columns of a matrix [K, numbers of a `full` weight] that make weights of `shape`.

    Raises:
        ValueError: the shape does not fit into the full one.
    """
    if tuple(full[1:]) == tuple(shape[1:]) and shape[0] <= full[0]:
        return kernel[:, : math.prod(shape)]
    return window(kernel, full, shape, 0, len(kernel)).reshape(len(kernel), -1)


def window(
    rows: Tensor, full: Sequence[int], shape: Sequence[int], first: int, count: int
) -> Tensor:
    """Return a view [count, *shape] into rows, each of which is a weight of shape `full`.

    The view has the leading channels, and the centre of the other dimensions.

    Args:
        rows: [r, numbers of a `full` weight].
        full: the shape of a row's weight.
        shape: the shape of the weights in the view.
        first: the first row of the view.
        count: the number of its rows.

    Raises:
        ValueError: the shape does not fit into the full one.
    """
    if len(full) != len(shape) or any(s > f for s, f in zip(shape, full, strict=True)):
        raise ValueError(f"a weight of shape {tuple(shape)} does not fit into {tuple(full)}")
    strides = [math.prod(full[i:]) for i in range(len(full) + 1)]
    cut = [0 if i < 2 else (f - s) // 2 for i, (f, s) in enumerate(zip(full, shape, strict=True))]
    start = sum(n * stride for n, stride in zip((first, *cut), strides, strict=True))
    return rows.as_strided((count, *shape), strides, start)
