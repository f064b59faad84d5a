"""The serial part of propagation, differentiated by hand.

A pass over a network makes hundreds of updates of a few vectors of 32 numbers, so the number of
tensor operations determines its cost. Autograd would record some thirty operations for each update,
and add to the gradient of every parameter each time. Here an update takes ten operations, and the
gradient of each parameter is one product at the end.

Letters: K updates, n = B·V rows, D the length of an embedding, S hidden units of the message MLP.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: One update: whether messages pass along forward edges, and the rows [n, 1] that it changes.
Update = tuple[bool, Tensor]


def _product(edges: Tensor, rows: Tensor) -> Tensor:
    """Sum rows over edges: [B, V, V] by [n, S] to [n, S]."""
    if len(edges) == 1:
        return edges[0] @ rows
    return (edges @ rows.view(len(edges), edges.shape[1], -1)).flatten(0, 1)


class Recurrence(torch.autograd.Function):
    """The embeddings h after all updates (Eq. 3, 4 and 15).

    The input gates are `gates @ relu(h @ first.T + offset)` summed over edges, plus a constant for
    each direction, which the caller makes from the second layer of M and the input weights of U.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,  # [n, D]
        forth: Tensor,  # [n, 3D], the constant part of the input gates, forward edges
        back: Tensor,  # [n, 3D], the same for backward edges
        first: Tensor,  # [S, D]
        offset: Tensor,  # [S]
        gates: Tensor,  # [3D, S]
        recurrent: Tensor,  # [3D, D]
        bias: Tensor,  # [3D]
        edges: Tensor,  # [B, V, V]
        updates: Sequence[Update],
        keep: bool,  # whether a gradient will be asked for
    ) -> Tensor:
        D = h.shape[1]
        ways = {True: (edges, forth), False: (edges.mT, back)}
        trace: list[tuple[Tensor, ...]] = []
        for forward, active in updates:
            way, constant = ways[forward]
            hidden = torch.addmm(offset, h, first.T).relu_()
            summed = _product(way, hidden)
            given = torch.addmm(constant, summed, gates.T)
            own = torch.addmm(bias, h, recurrent.T)
            reset, update = (given[:, : 2 * D] + own[:, : 2 * D]).sigmoid_().chunk(2, dim=1)
            new = torch.addcmul(given[:, 2 * D :], reset, own[:, 2 * D :]).tanh_()
            if keep:
                trace.append((h, hidden, summed, reset, update, new, own[:, 2 * D :]))
            h = torch.where(active, torch.lerp(new, h, update), h)
        ctx.trace, ctx.updates, ctx.edges = trace, updates, edges
        ctx.weights = first, gates, recurrent
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        first, gates, recurrent = ctx.weights
        grad, edges = grads[0], ctx.edges
        h, hidden, summed, reset, update, new, own = map(torch.stack, zip(*ctx.trace, strict=True))
        active = torch.stack([rows for _, rows in ctx.updates])
        # derivatives of the new h by each gate's input, for all updates at once: [K, n, D]
        to_new = active * (1 - update) * (1 - new * new)
        to_update = active * (h - new) * update * (1 - update)
        to_reset = to_new * own * reset * (1 - reset)
        to_given = torch.stack((to_reset, to_update, to_new), dim=2)
        to_own = torch.stack((to_reset, to_update, to_new * reset), dim=2)
        kept = torch.where(active, update, 1.0)
        reached = (hidden > 0).to(h.dtype)
        K = len(ctx.updates)
        given, owns, hiddens = ([grad] * K for _ in range(3))
        for k in reversed(range(K)):
            given[k] = (grad[:, None] * to_given[k]).flatten(1)
            owns[k] = (grad[:, None] * to_own[k]).flatten(1)
            way = edges.mT if ctx.updates[k][0] else edges
            hiddens[k] = _product(way, given[k] @ gates) * reached[k]
            grad = (grad * kept[k]).addmm_(owns[k], recurrent).addmm_(hiddens[k], first)
        all_given, all_own, all_hidden = torch.stack(given), torch.cat(owns), torch.cat(hiddens)
        forward = torch.tensor([f for f, _ in ctx.updates], device=h.device)[:, None, None]
        return (
            grad,
            (all_given * forward).sum(0),
            (all_given * ~forward).sum(0),
            all_hidden.T @ h.flatten(0, 1),
            all_hidden.sum(0),
            all_given.flatten(0, 1).T @ summed.flatten(0, 1),
            all_own.T @ h.flatten(0, 1),
            all_own.sum(0),
            None,
            None,
            None,
        )
