"""Coefficients against direct formulas, intervals against scipy's own bootstrap."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.correlation import (
    better_half,
    coefficients,
    correlate,
    mean_correlation,
    table_correlations,
    top_precision,
)
from ghn_pipeline.system.errors import UserError

SETTINGS = {"resamples": 400, "confidence": 0.95, "seed": 3}


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
    found = correlate(np.array([1, 2, 3]), np.array([1, 4, 2]), **SETTINGS)
    assert found["pearson"].value == pytest.approx(1 / math.sqrt(2 * 42 / 9))
    assert found["spearman"].value == pytest.approx(0.5)  # ranks (1, 3, 2): 1 - 6 * 2 / 24
    assert found["kendall"].value == pytest.approx(1 / 3)  # 2 pairs concordant, 1 discordant


def test_tau_b_with_ties_by_hand():
    x, y = np.array([1, 1, 2, 3]), np.array([1, 2, 2, 3])
    # of 6 pairs 1 is tied in x, 1 in y, the other 4 are concordant: 4 / sqrt(5 * 5)
    assert correlate(x, y, **SETTINGS)["kendall"].value == pytest.approx(0.8)


def test_float32_is_taken_as_it_is():
    x, y = noisy(30)
    single = correlate(x.astype(np.float32), y, **SETTINGS)["pearson"].value
    assert single == pytest.approx(correlate(x, y, **SETTINGS)["pearson"].value, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_relation_is_certain(sign):
    x = np.arange(10.0)
    found = correlate(x, sign * x**3, **SETTINGS)
    for name in ("spearman", "kendall"):
        estimate = found[name]
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((sign,) * 3)


@pytest.mark.parametrize("ties", [False, True])
def test_every_draw_agrees_with_scipy(ties):
    """The interval's ends are quantiles of scipy's coefficients over the very same draws."""
    x, y = noisy(12)
    if ties:
        x, y = x.round(), y.round()
    draws = np.random.default_rng(SETTINGS["seed"]).integers(12, size=(SETTINGS["resamples"], 12))
    found = correlate(x, y, **SETTINGS)
    for name, function in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
        ("kendall", stats.kendalltau),
    ):
        values = [function(x[i], y[i]).statistic for i in draws if np.ptp(x[i]) and np.ptp(y[i])]
        ends = np.quantile(values, [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx(tuple(ends))
        assert found[name].value == pytest.approx(function(x, y).statistic)


def test_interval_against_scipys_bootstrap():
    x, y = noisy(60)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic,
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = correlate(x, y, resamples=10_000, confidence=0.95, seed=1)["pearson"]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        x, y = noisy(50, seed)  # the true R is 1 / sqrt(2)
        estimate = correlate(x, y, resamples=200, confidence=0.9, seed=seed)["pearson"]
        covered += estimate.low <= 1 / math.sqrt(2) <= estimate.high
    assert 0.82 <= covered / 200 <= 0.95


def test_same_seed_same_interval_and_another_seed_another():
    x, y = noisy(20)
    assert correlate(x, y, **SETTINGS) == correlate(x, y, **SETTINGS)
    assert correlate(x, y, **SETTINGS) != correlate(x, y, **{**SETTINGS, "seed": 4})


def test_constant_draws_are_dropped():
    # a third of the draws of this x are constant: the interval is over the others
    found = correlate(np.array([0.1, 0.1, 0.4]), np.array([0.2, 0.3, 0.6]), **SETTINGS)
    assert all(np.isfinite([e.low, e.high]).all() for e in found.values())


def test_no_draw_left_leaves_the_value_without_an_interval():
    x = np.array([0.1, 0.1, 0.1, 0.1, 0.9])
    estimates = [
        correlate(x, x, resamples=1, confidence=0.95, seed=seed)["kendall"] for seed in range(20)
    ]
    assert all(estimate.value == pytest.approx(1) for estimate in estimates)
    assert any(math.isnan(estimate.low) and math.isnan(estimate.high) for estimate in estimates)


@pytest.mark.parametrize("swap", [False, True])
def test_constant_accuracies_leave_everything_undefined(swap):
    pair = np.full(7, 0.1), np.arange(7.0)
    for estimate in correlate(*(pair[::-1] if swap else pair), **SETTINGS).values():
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2], "3 predicted accuracies cannot be compared with 2"),
        ([0.1, 0.2], [0.1, 0.2], "3 architectures or more, not 2"),
        ([0.1, np.nan, 0.3], [0.1, 0.2, 0.3], r"predicted accuracies of architectures \[1\]"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, np.inf], r"true accuracies of architectures \[2\]"),
    ],
)
def test_what_cannot_be_correlated_is_said(predicted, truth, message):
    with pytest.raises(UserError, match=message):
        correlate(np.array(predicted), np.array(truth), **SETTINGS)


def test_table_correlations_are_over_all_and_over_the_better_half():
    x, y = noisy(21)
    found = table_correlations(x, y, **SETTINGS)
    half = [i for i in range(21) if y[i] >= np.median(y)]
    assert found["all"]["pearson"].value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["better_half"]["pearson"].value == pytest.approx(
        np.corrcoef(x[half], y[half])[0, 1]
    )
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(half, 2)]
    assert found["better_half"]["kendall"].value == pytest.approx(np.mean(signs))


def test_five_architectures_are_the_fewest_for_both_halves():
    assert table_correlations(*noisy(5), **SETTINGS).keys() == {"all", "better_half"}
    with pytest.raises(UserError, match="5 or more"):
        table_correlations(*noisy(4), **SETTINGS)


def test_groups_are_drawn_whole():
    """Against scipy over the very same draws of groups, each with all its pairs."""
    x, y = noisy(20)
    x = x.round(1)
    names = ["c", "a", "b", "a", "c", "c", "e", "d", "d", "d"] * 2
    drawn = np.random.default_rng(3).integers(5, size=(200, 5))
    found = mean_correlation([x, -y], y, resamples=200, confidence=0.9, seed=3, groups=names)
    for name, function in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
        ("kendall", stats.kendalltau),
    ):
        values = []
        for draw in drawn:
            pairs = [i for g in draw for i in range(20) if names[i] == "abcde"[g]]
            two = (function(one[pairs], y[pairs]).statistic for one in (x, -y))
            values.append(sum(two) / 2)
        ends = np.quantile(values, [0.05, 0.95])
        assert (found[name].low, found[name].high) == pytest.approx(tuple(ends))
    alone = mean_correlation([x, -y], y, resamples=200, confidence=0.9, seed=3)
    assert alone["pearson"].value == found["pearson"].value
    assert alone["pearson"].low != found["pearson"].low


def three_predictions(n: int) -> tuple[list[np.ndarray], np.ndarray]:
    generator = np.random.default_rng(2)
    truth = generator.normal(size=n)
    return [truth + sigma * generator.normal(size=n) for sigma in (0.5, 1, 2)], truth


def test_coefficients_are_the_values_of_correlate():
    found = correlate(*noisy(30), **SETTINGS)
    assert coefficients(*noisy(30)) == {name: found[name].value for name in found}


@pytest.mark.parametrize("ties", [False, True])
def test_mean_correlation_against_a_loop_over_draws(ties):
    """Each draw of architectures gives one mean of scipy's coefficients over the predictions."""
    predictions, truth = three_predictions(9)
    if ties:
        predictions, truth = [x.round() for x in predictions], truth.round()
    generator = np.random.default_rng(SETTINGS["seed"])
    draws = generator.integers(9, size=(SETTINGS["resamples"], 9))
    found = mean_correlation(predictions, truth, **SETTINGS)
    for name, function in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
        ("kendall", stats.kendalltau),
    ):
        means = []
        for i in draws:
            if all(len(set(column[i])) > 1 for column in (*predictions, truth)):
                of_draw = [function(x[i], truth[i]).statistic for x in predictions]
                means.append(sum(of_draw) / 3)
        ends = np.quantile(means, [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx(tuple(ends))
        value = sum(function(x, truth).statistic for x in predictions) / 3
        assert found[name].value == pytest.approx(value)


def test_the_mean_of_one_prediction_is_its_own_correlation():
    x, y = noisy(30)
    assert mean_correlation([x], y, **SETTINGS) == correlate(x, y, **SETTINGS)


def test_one_constant_prediction_leaves_the_mean_undefined():
    x, y = noisy(9)
    for estimate in mean_correlation([x, np.ones(9)], y, **SETTINGS).values():
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


def test_every_prediction_must_be_of_the_same_architectures():
    x, y = noisy(9)
    with pytest.raises(UserError, match="8 predicted accuracies cannot be compared with 9"):
        mean_correlation([x, x[:8]], y, **SETTINGS)


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
