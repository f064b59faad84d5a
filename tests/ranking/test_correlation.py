"""Coefficients against direct formulas, the better half and the precision against slow loops."""

import math
from itertools import combinations

import numpy as np
import pytest

from ghn_pipeline.ranking.correlation import (
    better_half,
    coefficients,
    top_precision,
)
from ghn_pipeline.system.errors import UserError


def noisy(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=n)
    return truth + generator.normal(size=n), truth


def test_better_half_is_best_first_and_rounds_up():
    assert better_half(np.array([0.1, 0.5, 0.3, 0.9, 0.2])).tolist() == [3, 1, 2]


def test_better_half_takes_the_earlier_of_equals():
    assert better_half(np.array([0.5, 0.7, 0.5, 0.5])).tolist() == [1, 0]


def test_better_half_of_100_is_the_papers_top_50():
    truth = np.random.default_rng(0).random(100)
    half = better_half(truth)
    assert len(set(half)) == 50
    assert truth[half].min() >= np.median(truth)


def test_three_points_by_hand():
    # x - mean = (-1, 0, 1), y - mean = (-4/3, 5/3, -1/3): R = 1 / sqrt(2 * 42/9)
    found = coefficients(np.array([1, 2, 3]), np.array([1, 4, 2]))
    assert found["pearson"] == pytest.approx(1 / math.sqrt(2 * 42 / 9))
    assert found["spearman"] == pytest.approx(0.5)  # ranks (1, 3, 2): 1 - 6 * 2 / 24
    assert found["kendall"] == pytest.approx(1 / 3)  # 2 pairs concordant, 1 discordant


def test_tau_b_with_ties_by_hand():
    x, y = np.array([1, 1, 2, 3]), np.array([1, 2, 2, 3])
    # of 6 pairs 1 is tied in x, 1 in y, the other 4 are concordant: 4 / sqrt(5 * 5)
    assert coefficients(x, y)["kendall"] == pytest.approx(0.8)


def test_coefficients_of_a_sample_by_their_formulas():
    x, y = noisy(21)
    found = coefficients(x, y)
    assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    ranks = [[sum(z <= one) for one in z] for z in (x, y)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(range(21), 2)]
    assert found["kendall"] == pytest.approx(np.mean(signs))


def test_float32_is_taken_as_it_is():
    x, y = noisy(30)
    single = coefficients(x.astype(np.float32), y)["pearson"]
    assert single == pytest.approx(coefficients(x, y)["pearson"], abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_relation_has_full_rank_agreement(sign):
    x = np.arange(10.0)
    found = coefficients(x, sign * x**3)
    assert found["spearman"] == pytest.approx(sign)
    assert found["kendall"] == pytest.approx(sign)
    assert abs(found["pearson"]) < 0.95


@pytest.mark.parametrize("swap", [False, True])
def test_constant_accuracies_leave_everything_undefined(swap):
    pair = np.full(7, 0.1), np.arange(7.0)
    found = coefficients(*(pair[::-1] if swap else pair))
    assert found.keys() == {"pearson", "spearman", "kendall"}
    assert np.isnan(list(found.values())).all()


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2], "3 predicted accuracies cannot be compared with 2"),
        ([0.1, 0.2], [0.1, 0.2], "3 architectures or more, not 2"),
        ([0.1, np.nan, 0.3], [0.1, 0.2, 0.3], r"predicted accuracies of architectures \[1\]"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, np.inf], r"true accuracies of architectures \[2\]"),
    ],
)
def test_accuracies_that_cannot_be_correlated_are_refused(predicted, truth, message):
    with pytest.raises(UserError, match=message):
        coefficients(np.array(predicted), np.array(truth))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.31, 0.5])
def test_top_precision_counts_who_is_among_both(share):
    x, y = noisy(61)
    count = math.ceil(61 * share)
    both = 0
    for i in range(61):
        better_predicted, better = sum(x > x[i]), sum(y > y[i])
        both += better_predicted < count and better < count
    assert 0 < both < count
    assert top_precision(x, y, share) == pytest.approx(both / count)


def test_top_precision_takes_the_earlier_of_equals():
    truth = np.array([0.9, 0.9, 0.9, 0.1])
    assert top_precision(np.array([0.5, 0.5, 0.5, 0.5]), truth, 0.5) == 1
    assert top_precision(np.array([0.1, 0.5, 0.5, 0.5]), truth, 0.5) == 0.5
    assert top_precision(np.array([0.1, 0.1, 0.5, 0.5]), truth, 0.5) == 0


def test_a_share_of_a_hundred_is_so_many():
    # 0.07 * 100 is 7.000000000000001, of which the ceiling is 8: one more would make it 7 / 8
    truth = -np.arange(100.0)
    predicted = truth.copy()
    predicted[[7, 50]] = truth[[50, 7]]
    assert top_precision(predicted, truth, 0.07) == 1


def test_top_precision_refuses_what_is_not_finite():
    with pytest.raises(UserError, match="predicted accuracies of architectures"):
        top_precision(np.array([0.1, np.nan, 0.3]), np.arange(3.0), 0.5)
