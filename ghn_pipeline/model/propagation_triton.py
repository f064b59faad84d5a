# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""Propagation on a GPU: what propagation.c does, by a program of Triton for each architecture.

The embeddings of a module and the products with its propagation network stay on chip for all
passes. Only the values of each update that the gradient needs go to memory and come back.

Letters: as in propagation.c; N numbers of a vector and R rows of a module, each a power of 2 that
what there is fits in. What is beyond is zero and stays so. Parameters in capitals are known when a
kernel is compiled.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

#: What the gradient needs of an update: h, hidden units and the own part of the new gate before
#: it; reset, update and new; the sum of hidden units.
KEPT = tl.constexpr(7)
#: Arguments of which one compiled kernel takes all values.
SIZES = ("longest", "W", "P", "T")


@triton.jit
def _vector(start, D: tl.constexpr, N: tl.constexpr):
    n = tl.arange(0, N)
    return tl.load(start + n, mask=n < D, other=0.0)


@triton.jit
def _matrix(start, stride, height, D: tl.constexpr, N: tl.constexpr, R: tl.constexpr):
    """Load R rows, of which there are `height`, with D numbers each."""
    r, n = tl.arange(0, R)[:, None], tl.arange(0, N)[None, :]
    return tl.load(start + r * stride + n, mask=(r < height) & (n < D), other=0.0)


@triton.jit
def _add_vector(start, x, D: tl.constexpr, N: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(start + n, tl.load(start + n, mask=n < D, other=0.0) + x, mask=n < D)


@triton.jit
def _add_matrix(start, stride, x, height, D: tl.constexpr, N: tl.constexpr):
    r, n = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    inside = (r < height) & (n < D)
    places = start + r * stride + n
    tl.store(places, tl.load(places, mask=inside, other=0.0) + x, mask=inside)


@triton.jit
def _row(x, v, R: tl.constexpr):
    """Row v: [R, N] to [N]."""
    return tl.sum(tl.where(tl.arange(0, R)[:, None] == v, x, 0.0), 0)


@triton.jit
def _with_row(x, v, row, R: tl.constexpr):
    return tl.where(tl.arange(0, R)[:, None] == v, row[None, :], x)


@triton.jit
def _by(x, matrix):
    """x · matrix."""
    return tl.sum(x[:, None] * matrix, 0)


@triton.jit
def _back(matrix, x):
    """matrix · x."""
    return tl.sum(matrix * x[None, :], 1)


@triton.jit
def _outer(x, y):
    return x[:, None] * y[None, :]


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _block(numbers, b, m):
    """Where the graph of a module begins, and its nodes V."""
    M = tl.load(numbers)
    block = numbers + tl.load(numbers + 2 + M + b * M + m)
    return block, tl.load(block)


@triton.jit
def _step(t, V, SYNCHRONOUS: tl.constexpr):
    """Return the nodes of a step, from and to, and whether they hear forward edges, and back."""
    if SYNCHRONOUS:
        return V * 0, V, t >= 0, t >= 0
    place = t % (2 * V - 1)  # Eq. 15
    v = tl.where(place < V, place, 2 * V - 2 - place)
    return v, v + 1, place < V, place >= V


@triton.jit
def _heard(block, V, v, forth, back, R: tl.constexpr):
    """Return the nodes that v hears [R], how many they are, and whether it hears from outside."""
    ends, listed, r = block + 1, block + 2 * V + 2, tl.arange(0, R)
    heard = r < 0
    begin, end = tl.load(ends + v), tl.load(ends + v + 1)
    outside = forth & (begin == end)
    end = tl.where(forth, end, begin)
    for e in range(begin, end):
        heard = heard | (r == tl.load(listed + e))
    first, last = tl.load(ends + V + v), tl.load(ends + V + v + 1)
    last = tl.where(back, last, first)
    for e in range(first, last):
        heard = heard | (r == tl.load(listed + e))
    return heard, end - begin + last - first, outside


@triton.jit
def _mean(embeddings, b, m, numbers, W, D: tl.constexpr, N: tl.constexpr, R: tl.constexpr):
    """Return the mean embedding of a module (Eq. 13)."""
    _, V = _block(numbers, b, m)
    start = embeddings + (b * W + tl.load(numbers + 1 + m)) * D
    return tl.sum(_matrix(start, D, V, D, N, R), 0) / V


@triton.jit
def _forward(
    block,
    V,
    h,
    passed,
    state,
    gates,
    inputs,
    tape,
    T,
    D: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    R: tl.constexpr,
    SYNCHRONOUS: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Update the embeddings of a module, h [R, N]; also return their hidden units and own parts."""
    wide, n = 3 * D + S, tl.arange(0, N)
    to_reset = _matrix(state, wide, D, D, N, N)
    to_update = _matrix(state + D, wide, D, D, N, N)
    to_new = _matrix(state + 2 * D, wide, D, D, N, N)
    to_hidden = _matrix(state + 3 * D, wide, D, S, N, N)
    more_reset = _vector(state + D * wide, D, N)
    more_update = _vector(state + D * wide + D, D, N)
    more_new = _vector(state + D * wide + 2 * D, D, N)
    more_hidden = _vector(state + D * wide + 3 * D, S, N)
    by_reset = _matrix(gates, 3 * D, S, D, N, N)
    by_update = _matrix(gates + D, 3 * D, S, D, N, N)
    by_new = _matrix(gates + 2 * D, 3 * D, S, D, N, N)
    each_reset = _vector(gates + S * 3 * D, D, N)
    each_update = _vector(gates + S * 3 * D + D, D, N)
    each_new = _vector(gates + S * 3 * D + 2 * D, D, N)
    plain_reset = _vector(inputs + D * 3 * D, D, N)
    plain_update = _vector(inputs + D * 3 * D + D, D, N)
    plain_new = _vector(inputs + D * 3 * D + 2 * D, D, N)
    # Eq. 14
    outer_reset = plain_reset + _by(passed, _matrix(inputs, 3 * D, D, D, N, N))
    outer_update = plain_update + _by(passed, _matrix(inputs + D, 3 * D, D, D, N, N))
    outer_new = plain_new + _by(passed, _matrix(inputs + 2 * D, 3 * D, D, D, N, N))
    own_reset, own_update = tl.zeros_like(h), tl.zeros_like(h)
    own_new, hidden = tl.zeros_like(h), tl.zeros_like(h)
    steps = T * (2 * V - 1)
    if SYNCHRONOUS:
        steps = V * 0 + T
    for t in range(-1, steps):
        first, end, forth, back = _step(t, V, SYNCHRONOUS)
        if t < 0:  # before all: of the initial embeddings
            first, end = V * 0, V
        else:
            following = h
            for v in range(first, end):
                heard, count, outside = _heard(block, V, v, forth, back, R)
                summed = tl.sum(tl.where(heard[:, None], hidden, 0.0), 0)  # Eq. 4
                in_reset = tl.where(outside, outer_reset, plain_reset) + count * each_reset
                in_update = tl.where(outside, outer_update, plain_update) + count * each_update
                in_new = tl.where(outside, outer_new, plain_new) + count * each_new
                # Eq. 3
                reset = _sigmoid(in_reset + _by(summed, by_reset) + _row(own_reset, v, R))
                update = _sigmoid(in_update + _by(summed, by_update) + _row(own_update, v, R))
                own = _row(own_new, v, R)
                new = 2.0 * _sigmoid(2.0 * (in_new + _by(summed, by_new) + reset * own)) - 1.0
                before = _row(h, v, R)
                following = _with_row(following, v, new + update * (before - new), R)
                if KEEP:
                    at = tape + (t * (end - first) + v - first) * KEPT * N + n
                    tl.store(at, before)
                    tl.store(at + N, _row(hidden, v, R))
                    tl.store(at + 2 * N, own)
                    tl.store(at + 3 * N, reset)
                    tl.store(at + 4 * N, update)
                    tl.store(at + 5 * N, new)
                    tl.store(at + 6 * N, summed)
            h = following
        for v in range(first, end):
            x = _row(h, v, R)
            own_reset = _with_row(own_reset, v, more_reset + _by(x, to_reset), R)
            own_update = _with_row(own_update, v, more_update + _by(x, to_update), R)
            own_new = _with_row(own_new, v, more_new + _by(x, to_new), R)
            units = more_hidden + _by(x, to_hidden)
            hidden = _with_row(hidden, v, tl.where(units < 0, 0.0, units), R)
    return h, hidden, own_new


@triton.jit(do_not_specialize=SIZES)
def _propagate(
    h,
    state,
    gates,
    inputs,
    numbers,
    W,
    P,
    T,
    D: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    R: tl.constexpr,
    SYNCHRONOUS: tl.constexpr,
    PASSING: tl.constexpr,
):
    """Replace initial embeddings [B, W, D] by the propagated ones."""
    b = tl.program_id(0).to(tl.int64)
    r, n = tl.arange(0, R)[:, None], tl.arange(0, N)[None, :]
    passed = tl.zeros([N], h.dtype.element_ty)  # Eq. 12
    for m in range(tl.load(numbers)):
        block, V = _block(numbers, b, m)
        start = h + (b * W + tl.load(numbers + 1 + m)) * D
        p = m % P
        last, _, _ = _forward(
            block,
            V,
            _matrix(start, D, V, D, N, R),
            passed,
            state + p * (D + 1) * (3 * D + S),
            gates + p * (S + 1) * 3 * D,
            inputs + p * (D + 1) * 3 * D,
            h,
            T,
            D,
            S,
            N,
            R,
            SYNCHRONOUS,
            False,
        )
        tl.store(start + r * D + n, last, mask=(r < V) & (n < D))
        if PASSING:
            passed = tl.sum(last, 0) / V  # Eq. 13; the rows beyond are zero


@triton.jit(do_not_specialize=SIZES)
def _propagate_backward(
    grad,
    last,
    h,
    state,
    gates,
    inputs,
    numbers,
    of_state,
    of_gates,
    of_inputs,
    tape,
    longest,
    W,
    P,
    T,
    D: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    R: tl.constexpr,
    SYNCHRONOUS: tl.constexpr,
    PASSING: tl.constexpr,
):
    """Replace the gradient of the last embeddings [B, W, D] by that of the initial ones.

    Add to `of_...` [B, P, ...] the gradients of the parameters. Each module is propagated once
    more, for what it computed in between.
    """
    b = tl.program_id(0).to(tl.int64)
    r, n = tl.arange(0, R), tl.arange(0, N)
    wide = 3 * D + S
    tape += b * longest * KEPT * N
    M = tl.load(numbers)
    further = tl.zeros(
        [N], h.dtype.element_ty
    )  # of each embedding of the next module to be undone (Eq. 13)
    for i in range(M):
        m = M - 1 - i
        p = m % P
        block, V = _block(numbers, b, m)
        row = (b * W + tl.load(numbers + 1 + m)) * D
        passed = tl.zeros([N], h.dtype.element_ty)
        if PASSING and m > 0:
            passed = _mean(last, b, m - 1, numbers, W, D, N, R)
        my_state = state + p * (D + 1) * wide
        my_gates = gates + p * (S + 1) * 3 * D
        my_inputs = inputs + p * (D + 1) * 3 * D
        now, hidden, own_new = _forward(
            block,
            V,
            _matrix(h + row, D, V, D, N, R),
            passed,
            my_state,
            my_gates,
            my_inputs,
            tape,
            T,
            D,
            S,
            N,
            R,
            SYNCHRONOUS,
            True,
        )
        tl.debug_barrier()  # what one thread wrote, another reads
        to_reset = _matrix(my_state, wide, D, D, N, N)
        to_update = _matrix(my_state + D, wide, D, D, N, N)
        to_new = _matrix(my_state + 2 * D, wide, D, D, N, N)
        to_hidden = _matrix(my_state + 3 * D, wide, D, S, N, N)
        by_reset = _matrix(my_gates, 3 * D, S, D, N, N)
        by_update = _matrix(my_gates + D, 3 * D, S, D, N, N)
        by_new = _matrix(my_gates + 2 * D, 3 * D, S, D, N, N)
        # gradients: of the embeddings, of what is made of them, and of the parameters
        g = _matrix(grad + row, D, V, D, N, R) + tl.where(r < V, 1.0, 0.0)[:, None] * further
        g_reset, g_update = tl.zeros_like(g), tl.zeros_like(g)
        g_new, g_hidden = tl.zeros_like(g), tl.zeros_like(g)
        nothing, none = tl.zeros_like(to_reset), tl.zeros_like(passed)
        of_reset, of_update, of_new, of_hidden = nothing, nothing, nothing, nothing
        of_by_reset, of_by_update, of_by_new = nothing, nothing, nothing
        more_reset, more_update, more_new, more_hidden = none, none, none, none
        each_reset, each_update, each_new = none, none, none
        outer_reset, outer_update, outer_new = none, none, none
        plain_reset, plain_update, plain_new = none, none, none
        steps = T * (2 * V - 1)
        if SYNCHRONOUS:
            steps = V * 0 + T
        for undone in range(0, steps + 1):
            t = steps - 1 - undone
            first, end, forth, back = _step(t, V, SYNCHRONOUS)
            if t < 0:  # the initial embeddings
                first, end = V * 0, V
            for v in range(first, end):
                x = _row(now, v, R)
                own_r, own_u, own_n = _row(g_reset, v, R), _row(g_update, v, R), _row(g_new, v, R)
                units = tl.where(_row(hidden, v, R) > 0, _row(g_hidden, v, R), 0.0)
                whole = _row(g, v, R) + _back(to_reset, own_r) + _back(to_update, own_u)
                whole += _back(to_new, own_n) + _back(to_hidden, units)
                g = _with_row(g, v, whole, R)
                of_reset += _outer(x, own_r)
                of_update += _outer(x, own_u)
                of_new += _outer(x, own_n)
                of_hidden += _outer(x, units)
                more_reset += own_r
                more_update += own_u
                more_new += own_n
                more_hidden += units
                if t >= 0:  # back to what was before the update
                    at = tape + (t * (end - first) + v - first) * KEPT * N + n
                    now = _with_row(now, v, tl.load(at), R)
                    hidden = _with_row(hidden, v, tl.load(at + N), R)
                    own_new = _with_row(own_new, v, tl.load(at + 2 * N), R)
                    g_hidden = _with_row(g_hidden, v, none, R)
            if t >= 0:
                for v in range(first, end):
                    at = tape + (t * (end - first) + v - first) * KEPT * N + n
                    reset, update, new = (
                        tl.load(at + 3 * N),
                        tl.load(at + 4 * N),
                        tl.load(at + 5 * N),
                    )
                    summed = tl.load(at + 6 * N)
                    whole = _row(g, v, R)
                    in_new = whole * (1.0 - update) * (1.0 - new * new)
                    in_update = whole * (_row(now, v, R) - new) * update * (1.0 - update)
                    in_reset = in_new * _row(own_new, v, R) * reset * (1.0 - reset)
                    g = _with_row(g, v, whole * update, R)
                    g_reset = _with_row(g_reset, v, in_reset, R)
                    g_update = _with_row(g_update, v, in_update, R)
                    g_new = _with_row(g_new, v, in_new * reset, R)
                    heard, count, outside = _heard(block, V, v, forth, back, R)
                    of_by_reset += _outer(summed, in_reset)
                    of_by_update += _outer(summed, in_update)
                    of_by_new += _outer(summed, in_new)
                    each_reset += count * in_reset
                    each_update += count * in_update
                    each_new += count * in_new
                    outer_reset += tl.where(outside, in_reset, 0.0)
                    outer_update += tl.where(outside, in_update, 0.0)
                    outer_new += tl.where(outside, in_new, 0.0)
                    plain_reset += in_reset
                    plain_update += in_update
                    plain_new += in_new
                    units = _back(by_reset, in_reset) + _back(by_update, in_update)
                    units += _back(by_new, in_new)
                    g_hidden += tl.where(heard[:, None], units[None, :], 0.0)
        inside = (r[:, None] < V) & (n[None, :] < D)
        tl.store(grad + row + r[:, None] * D + n[None, :], g, mask=inside)
        if PASSING and m > 0:
            through = _back(_matrix(my_inputs, 3 * D, D, D, N, N), outer_reset)
            through += _back(_matrix(my_inputs + D, 3 * D, D, D, N, N), outer_update)
            through += _back(_matrix(my_inputs + 2 * D, 3 * D, D, D, N, N), outer_new)
            _, before = _block(numbers, b, m - 1)
            further = through / before
        to = of_state + (b * P + p) * (D + 1) * wide
        _add_matrix(to, wide, of_reset, D, D, N)
        _add_matrix(to + D, wide, of_update, D, D, N)
        _add_matrix(to + 2 * D, wide, of_new, D, D, N)
        _add_matrix(to + 3 * D, wide, of_hidden, D, S, N)
        _add_vector(to + D * wide, more_reset, D, N)
        _add_vector(to + D * wide + D, more_update, D, N)
        _add_vector(to + D * wide + 2 * D, more_new, D, N)
        _add_vector(to + D * wide + 3 * D, more_hidden, S, N)
        to = of_gates + (b * P + p) * (S + 1) * 3 * D
        _add_matrix(to, 3 * D, of_by_reset, S, D, N)
        _add_matrix(to + D, 3 * D, of_by_update, S, D, N)
        _add_matrix(to + 2 * D, 3 * D, of_by_new, S, D, N)
        _add_vector(to + S * 3 * D, each_reset, D, N)
        _add_vector(to + S * 3 * D + D, each_update, D, N)
        _add_vector(to + S * 3 * D + 2 * D, each_new, D, N)
        to = of_inputs + (b * P + p) * (D + 1) * 3 * D
        _add_matrix(to, 3 * D, _outer(passed, outer_reset), D, D, N)
        _add_matrix(to + D, 3 * D, _outer(passed, outer_update), D, D, N)
        _add_matrix(to + 2 * D, 3 * D, _outer(passed, outer_new), D, D, N)
        _add_vector(to + D * 3 * D, plain_reset, D, N)
        _add_vector(to + D * 3 * D + D, plain_update, D, N)
        _add_vector(to + D * 3 * D + 2 * D, plain_new, D, N)
        tl.debug_barrier()  # the next module writes over the tape, and adds to the same sums


def forward(
    h: Tensor,
    state: Tensor,
    gates: Tensor,
    inputs: Tensor,
    numbers: Tensor,
    most: int,
    passes: int,
    synchronous: bool,
    pass_embeddings: bool,
) -> Tensor:
    """Propagate, as `ghn_pipeline::propagate` does."""
    out = h.clone(memory_format=torch.contiguous_format)
    weights = [t.contiguous() for t in (state, gates, inputs)]
    sizes = _sizes(h, gates, most)
    _propagate[(len(h),)](
        out,
        *weights,
        numbers,
        h.shape[1],
        len(state),
        passes,
        *sizes,
        synchronous,
        pass_embeddings,
        num_warps=8,
    )
    return out


def backward(
    grad: Tensor,
    last: Tensor,
    h: Tensor,
    state: Tensor,
    gates: Tensor,
    inputs: Tensor,
    numbers: Tensor,
    most: int,
    passes: int,
    synchronous: bool,
    pass_embeddings: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of `h` and of the matrices."""
    grad = grad.clone(memory_format=torch.contiguous_format)
    weights = [t.contiguous() for t in (state, gates, inputs)]
    sums = [t.new_zeros(len(h), *t.shape) for t in weights]
    D, S, N, R = _sizes(h, gates, most)
    longest = passes * (most if synchronous else 2 * most - 1)
    tape = h.new_empty(len(h) * longest * KEPT.value * N)
    _propagate_backward[(len(h),)](
        grad,
        last,
        h.contiguous(),
        *weights,
        numbers,
        *sums,
        tape,
        longest,
        h.shape[1],
        len(state),
        passes,
        D,
        S,
        N,
        R,
        synchronous,
        pass_embeddings,
        num_warps=8,
    )
    return (grad, *(t.sum(0) for t in sums))


def _sizes(h: Tensor, gates: Tensor, most: int) -> Sequence[int]:
    """Return D, S, N and R. R has a least value: it decides the order of sums over rows."""
    D, S = h.shape[2], gates.shape[1] - 1
    return D, S, triton.next_power_of_2(max(D, S, 16)), triton.next_power_of_2(max(most, 32))
