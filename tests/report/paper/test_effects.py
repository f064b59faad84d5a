"""The effects of claims, against plain arithmetic on the same predictions."""

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.methods import Comparison, Method
from ghn_pipeline.report.paper.claims import Finding
from ghn_pipeline.report.paper.effects import (
    Scale,
    differs,
    of_costs,
    of_early_sgd,
    of_nodes,
    of_propagation,
    of_rankings,
    of_search,
    of_stacking,
    rise,
)

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(0.6, 0.1, 60)


def predictions(noise: float, seeds: int = 2) -> list[np.ndarray]:
    return [TRUTH + RNG.normal(0, noise, len(TRUTH)) for _ in range(seeds)]


METHODS = {
    (name, by): Method(predictions(noise), 10.0, 1.0)
    for name, noise in {
        "ghn": 0.1,
        "oneshot": 0.15,
        "sgd-10": 0.3,
        "sgd-100": 0.1,
        "nodes-3": 0.08,
        "nodes-9": 0.2,
        "two": 0.1,
        "three": 0.1,
        "synchronous": 0.2,
    }.items()
    for by in ("accuracy", "likelihood")
    if not (name.startswith("sgd") and by == "likelihood")
}
SCALE = Scale("quick", "a truth", "likelihood", Comparison(METHODS, TRUTH, 0.95))
HALF = np.argsort(-TRUTH)[:30]


def r(name: str, by: str = "likelihood", over: object = slice(None)) -> float:
    found = [stats.pearsonr(x[over], TRUTH[over])[0] for x in METHODS[name, by].predictions]
    return float(np.mean(found))


def main(findings: list[Finding], claim: int) -> Finding:
    (one,) = (one for one in findings if one.claim == claim and one.main)
    return one


def test_rankings() -> None:
    found = of_rankings(SCALE)
    assert main(found, 1).value == pytest.approx(r("ghn"))
    assert main(found, 2).value == pytest.approx(r("ghn") - r("oneshot"))
    expected = r("ghn", over=HALF) - r("oneshot", over=HALF)
    assert main(found, 3).value == pytest.approx(expected)
    # the other measure stands beside it
    (beside,) = (one for one in found if one.claim == 2 and not one.main)
    assert beside.by == "by accuracy"
    assert beside.value == pytest.approx(r("ghn", "accuracy") - r("oneshot", "accuracy"))


def test_where_few_architectures_decide_pearsons_r_the_verdict_rests_on_spearmans() -> None:
    scale = Scale("quick", "a truth", "likelihood", Comparison(METHODS, TRUTH, 0.95), "spearman")
    found = [one for one in of_rankings(scale) if one.claim == 2]
    rho = {
        name: np.mean(
            [stats.spearmanr(x, TRUTH)[0] for x in METHODS[name, "likelihood"].predictions]
        )
        for name in ("ghn", "oneshot")
    }
    assert main(found, 2).value == pytest.approx(rho["ghn"] - rho["oneshot"])
    assert main(found, 2).by == "by likelihood, Spearman's coefficient"
    beside = {one.by: one.value for one in found if not one.main}
    assert set(beside) == {
        "by likelihood, Pearson's coefficient",
        "by accuracy, Spearman's coefficient",
    }
    assert beside["by likelihood, Pearson's coefficient"] == pytest.approx(r("ghn") - r("oneshot"))


def test_early_sgd_is_compared_by_accuracy_at_the_papers_share_of_steps() -> None:
    # 1,000 of 35,150 steps are 2.8%: 10 of 352, and 100 of 3,515
    for steps, nearest in ((352, "sgd-10"), (3515, "sgd-100")):
        found = of_early_sgd(SCALE, {10: "sgd-10", 100: "sgd-100"}, steps)
        four = main(found, 4)
        assert four.by.startswith(nearest.removeprefix("sgd-"))
        assert four.value == pytest.approx(r(nearest, "accuracy") - r("ghn", "accuracy"))
        rows = [r("ghn", "accuracy", HALF) - r(k, "accuracy", HALF) for k in ("sgd-10", "sgd-100")]
        assert main(found, 5).value == pytest.approx(min(rows))


def test_rise_is_that_of_numpys_line() -> None:
    levels, values = [3, 5, 9], np.array([0.7, 0.5, 0.4])
    slope, _ = np.polyfit(levels, values, 1)
    assert rise(levels) @ values == pytest.approx(slope * 6)


def test_fewer_nodes() -> None:
    found = of_nodes(SCALE, {3: "nodes-3", 5: "ghn", 9: "nodes-9"}, 9)
    slope, _ = np.polyfit([3, 5, 9], [r(name) for name in ("nodes-3", "ghn", "nodes-9")], 1)
    assert main(found, 8).value == pytest.approx(-6 * slope)
    assert main(found, 9).value == pytest.approx(r("nodes-3"))
    assert of_nodes(SCALE, {3: "nodes-3"}, 3) == []


def test_propagation() -> None:
    levels = {
        ("synchronous", 2): "synchronous",
        ("forward-backward", 1): "ghn",
        ("forward-backward", 2): "two",
        ("forward-backward", 3): "three",
    }
    found = of_propagation(SCALE, levels)
    assert main(found, 10).value == pytest.approx(r("two") - r("synchronous"))
    assert main(found, 11).value == pytest.approx(r("three") - r("ghn"))
    less = next(one for one in found if "less and less" in one.by and "likelihood" in one.by)
    assert less.value == pytest.approx(2 * r("two") - r("ghn") - r("three"))
    assert of_propagation(SCALE, {("forward-backward", 1): "ghn"}) == []


def test_stacking() -> None:
    rows = {(False, False): "nodes-9", (False, True): "two", (True, True): "ghn"}
    found = of_stacking(SCALE, rows)
    assert main(found, 12).value == pytest.approx(r("two") - r("nodes-9"))
    assert main(found, 13).value == pytest.approx(r("ghn") - r("two"))
    assert of_stacking(SCALE, {(True, True): "ghn"}) == []


def test_costs_are_ratios_of_geometric_means_with_welchs_interval() -> None:
    a, b = [10.0, 11.0, 13.0], [4.0, 5.0, 5.5]
    (found,) = of_costs(SCALE, {7: (a, b)})
    test = stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    assert found.value == pytest.approx(stats.gmean(a) / stats.gmean(b))
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))


def test_a_search_is_compared_by_welchs_interval_in_points() -> None:
    top, random = np.array([0.8, 0.82, 0.83]), np.array([0.7, 0.75, 0.8, 0.72])
    found = of_search(top, random, 0.95, scale="quick", truth="a truth")
    test = stats.ttest_ind(100 * top, 100 * random, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_what_differs_is_said() -> None:
    one, other = (
        Method(predictions(0.1, 3), 1, 1, "50 steps"),
        Method(predictions(0.1, 1), 1, 1, "as the GHN, except warmup 0"),
    )
    assert differs([one, other]) == "seeds: 1 and 3; as the GHN, except warmup 0"
    assert differs([one, one]) == ""


def test_an_undecided_effect_says_what_would_decide_it() -> None:
    found = of_stacking(SCALE, {(False, True): "two", (True, True): "three"})
    one = main(found, 13)
    assert one.verdict == "undecided"
    assert one.more.endswith(("architectures", "seeds"))
