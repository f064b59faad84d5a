"""How three coefficients of correlation shift where a group of architectures is left out.

From these shifts `intervals.py` has the variance of every coefficient, and the covariance of any
two over the same architectures, without resampling and without a normal distribution.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ghn_pipeline.ranking.correlation import Floats, better_half

#: The coefficients, in the order of every first axis here; Kendall's is tau-b.
COEFFICIENTS = ("pearson", "spearman", "kendall")
#: Elements of the matrices of pairs that are held at once, so that they fit a processor's cache.
BLOCK = 1 << 15

Indices = NDArray[np.intp]


def influences(x: Floats, y: Floats, group: Indices) -> tuple[Floats, Floats]:
    """Return the coefficients of predictions x [P, n] and truth y [n], and their influences.

    Returns:
        The coefficients [3, P], and for each of the G groups the shift of the coefficient
        [3, P, G] when the group is left out. The variance is (G - 1) / G times the sum of the
        squares of the shifts, less their mean. For Spearman's and Kendall's coefficients, which are
        means over pairs, that of few architectures is too large, by a quarter for 12; their shifts
        are scaled to give the infinitesimal jackknife's variance. A coefficient of constants is
        NaN.

    Args:
        x: predictions.
        y: truth.
        group: the group of each architecture, 0 to G - 1, none of them empty.
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    x, y = x[:, order], y[order]
    with np.errstate(divide="ignore", invalid="ignore"):
        values, without = (
            np.stack(of_each)
            for of_each in zip(_pearson(x, y, starts), *_ranked(x, y, starts), strict=True)
        )
    shifts = without - values[..., None]
    groups = len(starts)
    shifts[1:] *= (groups - 2) / math.sqrt(max(1, groups * (groups - 1)))
    return values, shifts


def influences_of_half(x: Floats, y: Floats, group: Indices) -> tuple[Floats, Floats]:
    """Return `influences` on the coefficients over the better half, which is chosen anew.

    To leave out a group also moves the threshold between the halves: of m architectures, of which
    k are in the better half, the half loses k and then takes in k - m / 2 others, or gives them up.
    Which architecture stands at the threshold is chance, so the effect of taking in one more is the
    mean over a quarter of the half on either side.

    Args:
        x: predictions [P, n].
        y: truth [n].
        group: the group of each architecture, 0 to G - 1, none of them empty.
    """
    best, half = np.argsort(-y, kind="stable"), better_half(y)
    reach = max(1, len(half) // 4)
    present, inside = np.unique(group[half], return_inverse=True)
    values, own = influences(x[:, half], y[half], inside)
    larger, smaller = best[: len(half) + reach], best[: len(half) - reach]
    more, fewer = (coefficients(x[:, some], y[some]) for some in (larger, smaller))
    one_more = (more - fewer) / (len(larger) - len(smaller))
    size = np.bincount(group)
    lost = np.bincount(group[half], minlength=len(size))
    shifts: Floats = one_more[..., None] * (lost - size / 2)
    shifts[..., present] += own
    return values, shifts


def coefficients(x: Floats, y: Floats) -> Floats:
    """Return the coefficients [3, P] of predictions x [P, n] and truth y [n]."""
    n = len(y)
    return influences(x, y, np.arange(n) * n // BLOCK)[0]  # groups of as many rows as a block has


def _pearson(x: Floats, y: Floats, starts: Indices) -> tuple[Floats, Floats]:
    """Return Pearson's R [P], and without each group [P, G]; groups begin at `starts` [G]."""
    x, y = x - x[:, :1], (y - y[0])[None]  # constants are exactly 0 from here on
    x, y = (z - z.mean(axis=1, keepdims=True) for z in (x, y))
    columns = (np.ones_like(y), x, y, x * y, x * x, y * y)
    sums = [np.sum(column, axis=1, keepdims=True) for column in columns]
    groups = [np.add.reduceat(column, starts, axis=1) for column in columns]
    # what rounding leaves of constants, where the others were left out
    least_x, least_y = 1e-12 * sums[-2], 1e-12 * sums[-1]

    def r(n: Floats, x: Floats, y: Floats, xy: Floats, xx: Floats, yy: Floats) -> Floats:
        xx, yy = xx - x * x / n, yy - y * y / n
        varied = (xx > least_x) & (yy > least_y)
        found: Floats = np.where(varied, (xy - x * y / n) / np.sqrt(xx * yy), np.nan)
        return found

    return r(*sums)[:, 0], r(*(a - b for a, b in zip(sums, groups, strict=True)))


def _ranked(
    x: Floats, y: Floats, starts: Indices
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return `_pearson` with Spearman's coefficient and with Kendall's.

    Let s[i, j] be the sign of x[i] - x[j]. The centred rank of j is minus half the sum of s[i, j]
    over i, so leaving out i adds s[i, j] / 2 to it, and all ranks together stay centred. Kendall's
    numerator and denominators are sums over all pairs, which lose the rows and columns of i.
    """
    number, n = x.shape
    groups = len(starts)
    own = np.repeat(np.arange(groups), np.diff(starts, append=n))
    rank_x, rank_y = np.stack([_centred_ranks(z) for z in x]), _centred_ranks(y)
    spearman, lost = np.empty((number, groups)), np.empty((3, number, groups))
    total = np.zeros((3, number))
    several = max(1, BLOCK * groups // (number * n * n))
    for first in range(0, groups, several):
        block = slice(first, first + several)
        begin, end = starts[first], (*starts, n)[min(first + several, groups)]
        local, inside = starts[block] - begin, (own[begin:end] - first, np.arange(begin, end))
        signs_x = np.sign(x[:, begin:end, None] - x[:, None, :])
        signs_y = np.sign(y[begin:end, None] - y)[None]
        for i, pairs in enumerate((signs_x * signs_y, signs_x**2, signs_y**2)):
            rows = _by_group(pairs, local)
            total[i] += rows.sum(axis=(1, 2))
            within = np.add.reduceat(rows[:, *inside], local, axis=1)
            lost[i, :, block] = 2 * rows.sum(axis=2) - within
        left_x, left_y = (
            rank[:, None, :] + _by_group(signs, local) / 2
            for rank, signs in ((rank_x, signs_x), (rank_y[None], signs_y))
        )
        left_x[:, *inside] = left_y[:, *inside] = 0
        spearman[:, block] = _cosine(left_x, left_y)
    left = total[..., None] - lost
    return (
        (_cosine(rank_x, rank_y), spearman),
        (total[0] / np.sqrt(total[1] * total[2]), left[0] / np.sqrt(left[1] * left[2])),
    )


def _centred_ranks(z: Floats) -> Floats:
    """Return the ranks of z [n], less their mean; equals share a rank."""
    ordered = np.sort(z)
    below, up_to = (np.searchsorted(ordered, z, side) for side in ("left", "right"))
    ranks: Floats = (below + up_to - len(z)) / 2
    return ranks


def _by_group(rows: Floats, starts: Indices) -> Floats:
    """Return the sums [P, G, n] of rows [P, m, n] over groups of rows that begin at `starts`."""
    if len(starts) == rows.shape[1]:
        return rows
    sums: Floats = np.add.reduceat(rows, starts, axis=1)
    return sums


def _cosine(a: Floats, b: Floats) -> Floats:
    """Return the cosine of the angles between vectors [..., n] and [..., n]."""
    ab, aa, bb = (np.einsum("...n,...n->...", *two) for two in ((a, b), (a, a), (b, b)))
    cosine: Floats = ab / np.sqrt(aa * bb)
    return cosine
