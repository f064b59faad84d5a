"""The agreement of predicted and true accuracies (section 5.3): three coefficients, the better
half, and the precision of the best. `intervals.py` has the intervals."""

import math
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
        UserError: `pair` lists the reasons.
    """
    x, y = pair(predicted, truth)
    count = math.ceil(round(share * len(y), 9))  # 0.07 * 100 is a little more than 7
    return len(np.intersect1d(_best(x, count), _best(y, count))) / count


def coefficients(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return 'pearson' (the paper's R), 'spearman' and 'kendall' (tau-b) of accuracies [n], [n].

    If the predicted or the true accuracies are constant, all three are NaN.

    Raises:
        UserError: `pair` lists the reasons.
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
