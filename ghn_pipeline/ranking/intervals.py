"""Intervals of correlations, of their contrasts, and of a difference of means (section 5.3).

One mechanism serves every coefficient, both halves, groups of architectures and any weights: the
jackknife gives the variance over architectures (`jackknife.py`), the seeds add theirs, and the ends
are set on Fisher's scale z = artanh R with a quantile of Student's t. Nothing is resampled, so the
same numbers always have the same interval.

tests/ranking/test_coverage.py shows that they cover. Pearson's R over all is the exception where
the truth has a long tail of bad architectures: a nominal 95% then covers 87 to 93%. Spearman's and
Kendall's coefficients and the better half are not affected.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ghn_pipeline.ranking import correlation
from ghn_pipeline.ranking.correlation import Estimate, Floats, pair
from ghn_pipeline.ranking.jackknife import COEFFICIENTS, influences, influences_of_half

#: Fewer architectures, or groups of them, have no interval. With 8, a nominal 95% covers up to
#: 98.6%, and Kendall's coefficient is 1 in 1% of samples with R = 0.85. The better half of 12 has
#: intervals 1.3 to 1.7 wide, which tell next to nothing. With 10 all cover 94 to 96%, except
#: Kendall's coefficient where R is 0.85 (98%).
FEWEST = 10
#: The two ends and the seeds' share where there is no interval.
NONE = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Contrast(Estimate):
    """A weighted sum of the coefficients of methods, each the mean over seeds, with its interval.

    Attributes:
        seeds: the fewest seeds that a method has. From 2 on the interval is over architectures and
            seeds; with 1 it is over architectures, for the models that were trained.
        seed_share: the seeds' share of the interval's squared width; NaN if there is none.
    """

    seeds: int
    seed_share: float


@dataclass(frozen=True)
class Reliability:
    """How well two measurements of the truth agree.

    Attributes:
        architectures: the number of architectures that were measured twice.
        correlations: 'pearson', 'spearman' and 'kendall' between both.
        ceiling: the largest Pearson's R that predictions can have with one of them, which is the
            square root of the R between both, or 0 if that is negative.
    """

    architectures: int
    correlations: dict[str, Contrast]
    ceiling: Estimate


class Agreement:
    """How well the predictions of methods agree with one truth.

    Args:
        methods: the predictions [n] of each method, one for every seed.
        truth: true accuracies [n] of the same architectures.
        groups: groups [n] of architectures that are drawn together, such as those that compute the
            same function. If not given, every architecture is a group.
        better_half: whether only the better half by truth is correlated. Its choice is a part of
            the uncertainty.

    Raises:
        UserError: the lengths differ, less than 3 architectures are correlated, or an accuracy is
            not finite.
    """

    def __init__(
        self,
        methods: Mapping[str, Sequence[np.ndarray]],
        truth: np.ndarray,
        *,
        groups: Sequence[object] | None = None,
        better_half: bool = False,
    ) -> None:
        pairs = [pair(x, truth) for predictions in methods.values() for x in predictions]
        x, y = np.stack([x for x, _ in pairs]), pairs[0][1]
        names = np.arange(len(y)) if groups is None else np.asarray(groups)
        _, group = np.unique(names, return_inverse=True)
        counted = correlation.better_half(y) if better_half else np.arange(len(y))
        pair(y[counted], y[counted])
        values, shifts = (influences_of_half if better_half else influences)(x, y, group)
        ends = np.cumsum([len(predictions) for predictions in methods.values()])[:-1]
        self._values = dict(zip(methods, np.split(values, ends, axis=1), strict=True))
        self._shifts = dict(zip(methods, np.split(shifts, ends, axis=1), strict=True))
        self._enough = len(np.unique(group[counted])) >= FEWEST

    def contrast(self, weights: Mapping[str, float], confidence: float) -> dict[str, Contrast]:
        """Return 'pearson' (the paper's R), 'spearman' and 'kendall' (tau-b), weighted and summed.

        One method with the weight 1 is its coefficient, and its interval lies in [-1, 1]; 1 and -1
        are the paired difference of two; levels less their mean are, up to a factor, a slope.

        The interval is NaN where less than `FEWEST` groups are correlated, where leaving one out
        leaves constants, and where a coefficient is 1 or -1: such a sample does not show its error.

        Args:
            weights: weights of methods; the others have none.
            confidence: level of the interval, in (0, 1).
        """
        c = np.array(list(weights.values()), dtype=np.float64)
        found = {}
        for i, coefficient in enumerate(COEFFICIENTS):
            values = [self._values[method][i] for method in weights]
            shifts = [self._shifts[method][i] for method in weights]
            seeds = min(len(of_seeds) for of_seeds in values)
            value = float(c @ [of_seeds.mean() for of_seeds in values])
            low, high, seed_share = NONE
            if self._enough:
                low, high, seed_share = _interval(values, shifts, c, confidence)
            found[coefficient] = Contrast(value, low, high, seeds, seed_share)
        return found


def reliability(
    first: np.ndarray,
    second: np.ndarray,
    *,
    confidence: float,
    groups: Sequence[object] | None = None,
) -> Reliability:
    """Return how well two measurements [n], [n] of the same architectures agree.

    Args:
        first: one measurement, such as the accuracies of one training each.
        second: the other, with the same error.
        confidence: level of the intervals, in (0, 1).
        groups: see `Agreement`.

    Raises:
        UserError: `Agreement` raises it.
    """
    found = Agreement({"first": [first]}, second, groups=groups).contrast({"first": 1}, confidence)
    r = found["pearson"]
    root = (math.sqrt(max(0.0, z)) if z == z else z for z in (r.value, r.low, r.high))
    return Reliability(len(first), found, Estimate(*root))


def mean_of(values: np.ndarray, confidence: float) -> Estimate:
    """Return the mean of values [n], by Student's t; without an interval for less than two."""
    value = float(np.mean(values))
    if len(values) < 2:
        return Estimate(value, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    width = float(special.stdtrit(len(values) - 1, (1 + confidence) / 2)) * error
    return Estimate(value, value - width, value + width)


def difference_of_means(first: np.ndarray, second: np.ndarray, confidence: float) -> Estimate:
    """Return the mean of independent values [n] less that of others [m], by Welch's t.

    The interval is NaN if there are less than two values of either, or if neither vary.
    """
    value = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return Estimate(value, math.nan, math.nan)
    parts = np.array([np.var(z, ddof=1) / len(z) for z in (first, second)])
    freedom = np.array([len(first) - 1, len(second) - 1])
    width = _quantile(confidence, parts, freedom) * math.sqrt(parts.sum())
    return Estimate(value, value - width, value + width)


def _interval(
    values: Sequence[Floats], shifts: Sequence[Floats], c: Floats, confidence: float
) -> tuple[float, float, float]:
    """Return the ends of the contrast c [M] and the seeds' share of its squared width.

    Architectures and seeds have a quantile each, and their squared widths are added: one quantile
    for the sum, by Satterthwaite, covers as little as 85% with two seeds and 91% with three. The
    ends combine those of the single methods, which are not symmetric, with the correlations of
    their errors: Zou, Toward using confidence intervals to compare correlations (2007). To move all
    methods at once along their covariance on Fisher's scale covers 92% of differences at 12 and 24.

    Args:
        values: the coefficient of each method and seed, M times [k].
        shifts: their shifts by group, M times [k, G].
        c: weights.
        confidence: level of the interval.
    """
    r = np.array([of_seeds.mean() for of_seeds in values])
    if not (np.abs(r) < 1 - 1e-12).all():
        return NONE
    groups = shifts[0].shape[1]
    centred = np.stack([_centred(of_seeds.mean(axis=0)) for of_seeds in shifts])
    of_architectures = (groups - 1) / groups * centred @ centred.T
    of_seeds = np.array([_of_seeds(*both) for both in zip(values, shifts, strict=True)])
    freedom = np.array([len(each) - 1 for each in values])
    by_architectures = _quantile(confidence, np.ones(1), np.array([groups - 1])) ** 2
    by_seeds = _quantile(confidence, c**2 * of_seeds, freedom) ** 2
    squares = by_architectures * of_architectures + by_seeds * np.diag(of_seeds)
    widths = np.sqrt(np.diag(squares))
    if not (widths > 0).all():  # also where they are not defined
        return NONE
    below, above = (
        np.abs(np.tanh(np.arctanh(r) + sign * widths / (1 - r**2)) - r) for sign in (-1, 1)
    )
    down, up = (c * np.where(c > 0, *ends) / widths for ends in ((below, above), (above, below)))
    to_low, to_high, square = (max(0.0, float(z @ squares @ z)) for z in (down, up, c))
    seed_share = by_seeds * float(c**2 @ of_seeds) / square if square else 0.0
    return float(c @ r) - math.sqrt(to_low), float(c @ r) + math.sqrt(to_high), seed_share


def _of_seeds(values: Floats, shifts: Floats) -> float:
    """Return the variance that the choice of k seeds adds to the mean of their values [k].

    It is the variance of the values less the part of it that comes from the architectures, by the
    seeds' own shifts [k, G], because the variance over architectures holds that part already. Two
    seeds know their variance too badly for a difference: nothing is taken off.
    """
    k, groups = len(values), shifts.shape[1]
    if k == 1:
        return 0.0
    own = _centred(shifts - shifts.mean(axis=0)) if k > 2 else np.zeros(1)
    of_architectures = (groups - 1) / groups * float(np.sum(own**2)) / (k - 1)
    more: float = max(0.0, float(np.var(values, ddof=1)) - of_architectures)
    return more / k


def _centred(shifts: Floats) -> Floats:
    centred: Floats = shifts - shifts.mean(axis=-1, keepdims=True)
    return centred


def _quantile(confidence: float, parts: Floats, freedom: NDArray[np.intp]) -> float:
    """Return Student's quantile for a variance of independent parts, each with its freedom.

    The degrees of freedom are Satterthwaite's. The quantile is 0 if the variance is.
    """
    some = parts > 0
    if not some.any():
        return 0.0
    degrees = parts.sum() ** 2 / (parts[some] ** 2 / freedom[some]).sum()
    return float(special.stdtrit(degrees, (1 + confidence) / 2))
