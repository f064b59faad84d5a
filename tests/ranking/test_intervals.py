"""Intervals against direct formulas, bootstraps and scipy; test_coverage.py has their coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.correlation import better_half
from ghn_pipeline.ranking.intervals import (
    FEWEST,
    Agreement,
    difference_of_means,
    mean_of,
    reliability,
)
from ghn_pipeline.ranking.jackknife import coefficients
from ghn_pipeline.system.errors import UserError

SEEDS = 3


def sample(n: int, methods: int = 2, seed: int = 0) -> tuple[dict[str, list[np.ndarray]], ...]:
    """Methods 'a', 'b', ... of three seeds each, and a truth [n]."""
    generator = np.random.default_rng(seed)
    y, common = generator.normal(size=(2, n))
    found = {
        name: [y + common + generator.normal(size=n) * (0.5 + i) for _ in range(SEEDS)]
        for i, name in enumerate("abcd"[:methods])
    }
    return found, y


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's R without each point, less its mean."""
    each = np.array([pearson(np.delete(x, i), np.delete(y, i)) for i in range(len(y))])
    return each - each.mean()


def test_one_prediction_by_hand():
    methods, y = sample(14)
    x = methods["a"][0]
    found = Agreement({"a": [x]}, y).contrast({"a": 1}, 0.9)["pearson"]
    r = pearson(x, y)
    error = math.sqrt(13 / 14 * sum(left_out(x, y) ** 2)) / (1 - r**2)
    reach = stats.t.ppf(0.95, 13) * error
    ends = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    assert (found.value, found.low, found.high) == pytest.approx((r, *ends))
    assert (found.seeds, found.seed_share) == (1, 0)


def test_three_seeds_by_hand():
    generator = np.random.default_rng(4)
    y = generator.normal(size=40)
    x = [y + sigma * generator.normal(size=40) for sigma in (0.3, 1, 2)]
    found = Agreement({"a": x}, y).contrast({"a": 1}, 0.95)["pearson"]
    each, mine = [pearson(one, y) for one in x], np.array([left_out(one, y) for one in x])
    over_architectures = 39 / 40 * sum(mine.mean(axis=0) ** 2)
    own = 39 / 40 * sum(((mine - mine.mean(axis=0)) ** 2).ravel()) / 2
    over_seeds = (np.var(each, ddof=1) - own) / 3
    assert over_seeds > 0
    parts = (
        stats.t.ppf(0.975, 39) ** 2 * over_architectures,
        stats.t.ppf(0.975, 2) ** 2 * over_seeds,
    )
    r = np.mean(each)
    reach = math.sqrt(sum(parts)) / (1 - r**2)
    assert found.low == pytest.approx(math.tanh(math.atanh(r) - reach))
    assert found.high == pytest.approx(math.tanh(math.atanh(r) + reach))
    assert found.seeds == 3
    assert found.seed_share == pytest.approx(parts[1] / sum(parts))


def test_a_difference_by_hand():
    """Zou's ends, with the correlation of both errors by the points left out."""
    methods, y = sample(20)
    x = {name: methods[name][0] for name in "ab"}
    agreement = Agreement({name: [x[name]] for name in "ab"}, y)
    a, b = (agreement.contrast({name: 1}, 0.95)["pearson"] for name in "ab")
    rho = pearson(left_out(x["a"], y), left_out(x["b"], y))
    found = agreement.contrast({"a": 1, "b": -1}, 0.95)["pearson"]
    down, up = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    low, high = (math.sqrt(p**2 + q**2 - 2 * rho * p * q) for p, q in (down, up))
    value = a.value - b.value
    assert (found.value, found.low, found.high) == pytest.approx((value, value - low, value + high))


def test_the_seeds_of_a_difference_have_welchs_degrees_of_freedom():
    """Scores without errors of architectures: only the choice of seeds is left."""
    y = np.repeat(np.arange(50.0), 40)  # many, so that the architectures' part is small
    generator = np.random.default_rng(0)
    noise = generator.normal(size=y.size) * y.std()
    strengths = {"a": (0.3, 0.6, 1.2), "b": (1.5, 2.5)}
    methods = {name: [y + s * noise for s in of_one] for name, of_one in strengths.items()}
    found = Agreement(methods, y).contrast({"a": 1, "b": -1}, 0.95)["pearson"]
    r = {name: [pearson(x, y) for x in methods[name]] for name in methods}
    welch = stats.ttest_ind(r["a"], r["b"], equal_var=False).confidence_interval(0.95)
    assert found.seed_share > 0.99
    # the ends are not symmetric, their distance is about the same
    assert found.high - found.low == pytest.approx(welch.high - welch.low, rel=0.25)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_contrast_is_as_wide_as_its_bootstrap(half, grouped):
    """The draws of whole groups choose the better half anew, and have the same means of seeds."""
    methods, y = sample(300, methods=3)
    group = np.arange(300) // 2 if grouped else np.arange(300)
    if grouped:  # both of a group have the same scores
        y, methods = y[group * 2], {k: [x[group * 2] for x in m] for k, m in methods.items()}
        y = y + np.random.default_rng(2).normal(size=300) * 0.1
    weights = {"a": 1.0, "b": -2.0, "c": 1.0}

    def value(index: np.ndarray) -> np.ndarray:
        index = index[better_half(y[index])] if half else index
        means = (
            weight * coefficients(np.stack(methods[name])[:, index], y[index]).mean(axis=1)
            for name, weight in weights.items()
        )
        return sum(means)

    generator = np.random.default_rng(3)
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    draws = [
        value(
            np.concatenate(
                [members[g] for g in generator.integers(len(members), size=len(members))]
            )
        )
        for _ in range(250)
    ]
    agreement = Agreement(methods, y, groups=group, better_half=half)
    for estimate, exact, spread in zip(
        agreement.contrast(weights, 0.95).values(),
        value(np.arange(300)),
        np.std(draws, axis=0),
        strict=True,
    ):
        assert estimate.value == pytest.approx(exact)
        of_architectures = (estimate.high - estimate.low) * math.sqrt(1 - estimate.seed_share)
        assert of_architectures / 2 / stats.t.ppf(0.975, len(members) - 1) == pytest.approx(
            spread, rel=0.2
        )


def test_groups_are_what_counts():
    """Every architecture ten times over tells no more than each once."""
    methods, y = sample(40)
    weights = {"a": 1.0, "b": -1.0}
    once = Agreement(methods, y).contrast(weights, 0.95)["pearson"]
    tenfold = {name: [np.repeat(x, 10) for x in of_one] for name, of_one in methods.items()}
    names = [f"function {i}" for i in range(40) for _ in range(10)]
    often = Agreement(tenfold, np.repeat(y, 10), groups=names).contrast(weights, 0.95)["pearson"]
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_order_scale_and_names_do_not_matter():
    methods, y = sample(40)
    groups = np.arange(40) // 3
    weights = {"a": 0.5, "b": -1.5}
    found = Agreement(methods, y, groups=groups, better_half=True).contrast(weights, 0.95)
    shuffled = np.random.default_rng(0).permutation(40)
    moved = {name: [3 * x[shuffled] - 7 for x in methods[name]] for name in "ba"}
    names = [f"{9 - group % 10} {group}" for group in groups[shuffled]]
    other = Agreement(moved, y[shuffled] / 5, groups=names, better_half=True)
    for name, estimate in other.contrast(weights, 0.95).items():
        expected = found[name]
        assert (estimate.value, estimate.low, estimate.high, estimate.seed_share) == pytest.approx(
            (expected.value, expected.low, expected.high, expected.seed_share)
        )


def test_a_weighted_contrast_is_the_weighted_interval():
    methods, y = sample(30)
    agreement = Agreement(methods, y)
    one = agreement.contrast({"a": 1, "b": -1}, 0.95)["kendall"]
    twice = agreement.contrast({"a": -2, "b": 2}, 0.95)["kendall"]
    ends = (-2 * one.value, -2 * one.high, -2 * one.low)
    assert (twice.value, twice.low, twice.high) == pytest.approx(ends)


def test_a_method_hardly_differs_from_itself():
    methods, y = sample(300)
    x = methods["a"][0]
    agreement = Agreement({"a": [x], "again": [x]}, y)
    alone = agreement.contrast({"a": 1}, 0.95)
    for name, estimate in agreement.contrast({"a": 1, "again": -1}, 0.95).items():
        # the correlation of both is 1, so all that is left is the asymmetry of their intervals
        asymmetry = abs(alone[name].high + alone[name].low - 2 * alone[name].value)
        assert (estimate.value, estimate.high) == pytest.approx((0, asymmetry), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_one_method_stays_within_1(seed):
    methods, y = sample(FEWEST, seed=seed)
    near = [y + 0.01 * x for x in methods["a"]]
    for estimate in Agreement({"a": near}, y).contrast({"a": 1}, 0.99).values():
        if not math.isnan(estimate.low):
            assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_a_higher_level_is_wider():
    methods, y = sample(30)
    agreement = Agreement(methods, y)
    widths = []
    for confidence in (0.8, 0.95, 0.99):
        found = agreement.contrast({"a": 1}, confidence)["spearman"]
        widths.append(found.high - found.low)
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("architectures", "half", "groups"),
    [(FEWEST - 1, False, None), (2 * FEWEST - 2, True, None), (40, False, [0, 1, 2, 3] * 10)],
)
def test_too_few_have_a_value_and_no_interval(architectures, half, groups):
    methods, y = sample(architectures)
    found = Agreement(methods, y, groups=groups, better_half=half).contrast({"a": 1}, 0.95)
    for estimate in found.values():
        assert -1 <= estimate.value <= 1
        assert np.isnan([estimate.low, estimate.high, estimate.seed_share]).all()


@pytest.mark.parametrize(("architectures", "half"), [(FEWEST, False), (2 * FEWEST - 1, True)])
def test_the_fewest_have_an_interval(architectures, half):
    methods, y = sample(architectures)
    for estimate in Agreement(methods, y, better_half=half).contrast({"a": 1}, 0.95).values():
        assert estimate.low < estimate.value < estimate.high


def test_a_perfect_order_does_not_tell_its_error():
    x = np.arange(12.0)
    found = Agreement({"a": [x]}, x**3).contrast({"a": 1}, 0.95)
    assert found["kendall"].value == 1
    assert math.isnan(found["kendall"].low)
    assert found["pearson"].low < found["pearson"].value < found["pearson"].high


def test_constants_are_undefined():
    _, y = sample(12)
    for x in (np.ones(12), np.eye(12)[0]):  # the second is constant without its first
        found = Agreement({"a": [x]}, y).contrast({"a": 1}, 0.95)
        for estimate in found.values():
            assert np.isnan([estimate.low, estimate.high]).all()
    assert math.isnan(Agreement({"a": [np.ones(12)]}, y).contrast({"a": 1}, 0.9)["pearson"].value)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2], "3 predicted accuracies cannot be compared with 2"),
        ([0.1, np.nan, 0.3], [0.1, 0.2, 0.3], r"predicted accuracies of architectures \[1\]"),
        ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], "not 2, and with its better half 5 or more"),
    ],
)
def test_what_cannot_be_correlated_is_said(predicted, truth, message):
    with pytest.raises(UserError, match=message):
        Agreement({"a": [np.array(predicted)]}, np.array(truth), better_half=True)


def test_reliability_is_the_correlation_of_both_and_its_root():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=200)
    first, second = truth + generator.normal(size=(2, 200)) * 0.5
    found = reliability(first, second, confidence=0.95)
    same = Agreement({"a": [first]}, second).contrast({"a": 1}, 0.95)
    assert found.correlations == same
    r = same["pearson"]
    assert found.ceiling.value**2 == pytest.approx(r.value)
    assert (found.ceiling.low**2, found.ceiling.high**2) == pytest.approx((r.low, r.high))
    # the truth without its error is the best prediction, and R with it is the root of 1 / 1.25
    assert pearson(truth, first) == pytest.approx(found.ceiling.value, abs=0.03)


def test_reliability_below_zero_allows_nothing():
    x = np.random.default_rng(0).normal(size=20)
    y = -x + np.random.default_rng(1).normal(size=20) * 0.1
    ceiling = reliability(x, y, confidence=0.95).ceiling
    assert (ceiling.value, ceiling.low, ceiling.high) == (0, 0, 0)


def test_reliability_of_too_few_has_no_interval():
    x = np.arange(5.0)
    found = reliability(x, np.array([1.0, 0, 2, 4, 3]), confidence=0.95).ceiling
    assert found.value == pytest.approx(math.sqrt(0.8))
    assert math.isnan(found.low)


@pytest.mark.parametrize("numbers", [(10, 10), (3, 8)])
def test_a_difference_of_means_is_welchs(numbers):
    generator = np.random.default_rng(0)
    first, second = (
        generator.normal(0.95, 0.01, numbers[0]),
        generator.normal(0.94, 0.03, numbers[1]),
    )
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    found = difference_of_means(first, second, 0.9)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_a_mean_is_students():
    values = np.random.default_rng(0).normal(0.95, 0.01, 7)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_of(values, 0.9)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert math.isnan(mean_of(values[:1], 0.9).low)


@pytest.mark.parametrize("first", [[0.9], [0.9, 0.9]])
def test_a_difference_of_means_needs_a_variance(first):
    found = difference_of_means(np.array(first), np.array([0.8, 0.8]), 0.95)
    assert found.value == pytest.approx(0.1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
