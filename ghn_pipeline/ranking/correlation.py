"""The agreement of predicted and true accuracies (section 5.3): three coefficients with percentile
bootstrap intervals, which are wide for ten or fifty architectures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ghn_pipeline.system.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A coefficient in [-1, 1] and the ends of its interval, NaN if they are undefined."""

    value: float
    low: float
    high: float


def better_half(truth: np.ndarray) -> NDArray[np.intp]:
    """Return the indices [ceil(n/2)] of the better half of true accuracies [n], best first.

    It is the paper's Top-50 of 100 (section 5.3). Of equal accuracies the earlier comes first.
    """
    return _best(truth, (len(truth) + 1) // 2)


def top_precision(predicted: np.ndarray, truth: np.ndarray, share: float) -> float:
    """Return the fraction of the best `share` by prediction that is among the best by truth.

    Both are the ceil(share n) best of accuracies [n], [n]; of equal ones the earlier come first.

    Raises:
        UserError: `correlate` lists the reasons.
    """
    x, y = pair(predicted, truth)
    count = math.ceil(round(share * len(y), 9))  # 0.07 * 100 is a little more than 7
    return len(np.intersect1d(_best(x, count), _best(y, count))) / count


def coefficients(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return 'pearson' (the paper's R), 'spearman' and 'kendall' (tau-b) of accuracies [n], [n].

    If the predicted or the true accuracies are constant, all three are NaN.

    Raises:
        UserError: `correlate` lists the reasons.
    """
    x, y = pair(predicted, truth)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(("pearson", "spearman", "kendall"), math.nan)
    found = {
        "pearson": stats.pearsonr(x, y),
        "spearman": stats.spearmanr(x, y),
        "kendall": stats.kendalltau(x, y),
    }
    return {name: float(result.statistic) for name, result in found.items()}


def correlate(
    predicted: np.ndarray, truth: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> dict[str, Estimate]:
    """Return 'pearson' (the paper's R), 'spearman' and 'kendall' (tau-b) of accuracies [n], [n].

    The interval at `confidence` in (0, 1) is the percentile bootstrap over `resamples` draws of n
    pairs, the same draws for every coefficient. Draws with constant accuracies are dropped. If the
    predicted or the true accuracies are themselves constant, all values are NaN.

    Raises:
        UserError: the lengths differ, n is less than 3, or an accuracy is not finite.
    """
    return mean_correlation(
        [predicted], truth, resamples=resamples, confidence=confidence, seed=seed
    )


def mean_correlation(
    predicted: Sequence[np.ndarray],
    truth: np.ndarray,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> dict[str, Estimate]:
    """Return the means of `correlate` over one or more predictions [n], such as those of seeds.

    The interval is that of the mean, because all predictions share the draws of architectures. If
    the `groups` [n] of the architectures are given, each draw takes as many whole groups as there
    are, because members of a group share their errors. Draws with constant accuracies are dropped.
    If a prediction or the truth is itself constant, all values are NaN.

    Raises:
        UserError: `correlate` lists the reasons.
    """
    pairs = [pair(x, truth) for x in predicted]
    values = [coefficients(x, y) for x, y in pairs]
    if any(math.isnan(value) for of_one in values for value in of_one.values()):
        return {name: Estimate(math.nan, math.nan, math.nan) for name in values[0]}
    columns = [*(x for x, _ in pairs), pairs[0][1]]
    counts = _draws(columns, resamples, seed, range(len(truth)) if groups is None else groups)
    drawn = [_of_draws(x, y, counts) for x, y in pairs]
    return {
        name: Estimate(
            float(np.mean([of_one[name] for of_one in values])),
            *_interval(np.mean([of_one[name] for of_one in drawn], axis=0), confidence),
        )
        for name in values[0]
    }


def table_correlations(
    predicted: np.ndarray, truth: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Return `correlate` over 'all' architectures and over the 'better_half' (Table 4).

    Raises:
        UserError: n is less than 5, so that the better half has less than 3 architectures, or
            `correlate` raises it.
    """

    def over(x: np.ndarray, y: np.ndarray) -> dict[str, Estimate]:
        return correlate(x, y, resamples=resamples, confidence=confidence, seed=seed)

    everything = over(predicted, truth)
    half = better_half(truth)
    return {"all": everything, "better_half": over(predicted[half], truth[half])}


def _best(accuracies: np.ndarray, count: int) -> NDArray[np.intp]:
    """Return the indices [count] of the best, in order; of equals the earlier comes first."""
    return np.argsort(-accuracies, kind="stable")[:count]


def pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[Floats, Floats]:
    """Return accuracies [n], [n] in double precision.

    Raises:
        UserError: the lengths differ, n is less than 3, or an accuracy is not finite.
    """
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.shape != y.shape:
        raise UserError(
            f"{len(x)} predicted accuracies cannot be compared with {len(y)} true ones: "
            "both must have the same architectures. Make both again."
        )
    if len(x) < 3:
        raise UserError(
            f"a correlation needs 3 architectures or more, not {len(x)}, and with its better half "
            "5 or more. Train more ground-truth architectures."
        )
    for name, values in (("predicted", x), ("true", y)):
        if not np.isfinite(values).all():
            raise UserError(
                f"the {name} accuracies of architectures {np.flatnonzero(~np.isfinite(values))} "
                "(counted from 0) are not finite. Make them again."
            )
    return x, y


def _draws(
    columns: Sequence[Floats], resamples: int, seed: int, groups: Sequence[object]
) -> Floats:
    """Return how often each draw holds each of n pairs, [at most resamples, n].

    Only draws in which all columns [n] vary are kept.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    number = group.max() + 1
    index = np.random.default_rng(seed).integers(number, size=(resamples, number))
    flat = (index + number * np.arange(resamples)[:, None]).ravel()
    drawn = np.bincount(flat, minlength=number * resamples).reshape(resamples, number)
    counts: Floats = drawn[:, group].astype(np.float64)
    varied = np.all([_varied(column, counts) for column in columns], axis=0)
    return counts[varied]


def _varied(column: Floats, counts: Floats) -> NDArray[np.bool_]:
    there = counts > 0
    least, most = (np.where(there, column, end) for end in (np.inf, -np.inf))
    varied: NDArray[np.bool_] = least.min(axis=1) < most.max(axis=1)
    return varied


def _of_draws(x: Floats, y: Floats, counts: Floats) -> dict[str, Floats]:
    """Return the coefficients [draws] of draws that hold pair i `counts[:, i]` times."""
    return {
        "pearson": _pearson(x, y, counts),
        "spearman": _pearson(_ranks(x, counts), _ranks(y, counts), counts),
        "kendall": _kendall(x, y, counts),
    }


def _ranks(x: Floats, counts: Floats) -> Floats:
    """Return the ranks [draws, n] of x [n] within each draw, from 1; equals share their mean."""
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.diff(x[order], prepend=-np.inf))
    equal = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(equal, axis=1) - (equal - 1) / 2
    placed = np.empty_like(counts)
    placed[:, order] = np.repeat(ranks, np.diff(starts, append=len(x)), axis=1)
    return placed


def _pearson(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Pearson's R [draws] of x and y, [n] or [draws, n]."""
    total = counts.sum(axis=1)
    x = x - ((counts * x).sum(axis=1) / total)[:, None]
    y = y - ((counts * y).sum(axis=1) / total)[:, None]
    xy, xx, yy = ((counts * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
    r: Floats = xy / np.sqrt(xx * yy)
    return r.clip(-1, 1)


def _kendall(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Kendall's tau-b [draws].

    Let c[i] be how often a draw holds pair i, and S the signs of all differences. Then the number
    of concordant less discordant pairs is c (Sx * Sy) c, and that of pairs not tied in x is
    c (Sx * Sx) c, both counted twice. This needs no loop over draws, and is exact, because all
    numbers are whole.
    """
    sx, sy = (np.sign(values[:, None] - values) for values in (x, y))
    both, only_x, only_y = (((counts @ s) * counts).sum(axis=1) for s in (sx * sy, sx**2, sy**2))
    tau: Floats = both / np.sqrt(only_x * only_y)
    return tau


def _interval(draws: Floats, confidence: float) -> tuple[float, float]:
    if not len(draws):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)
