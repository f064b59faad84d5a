"""The tables of areas: every number by a slow loop, every interval by its formula."""

import json
import math
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.paper.anytime_table import (
    Found,
    Group,
    Method,
    groups_table,
    measure,
    methods_table,
    metrics,
)
from ghn_pipeline.report.paper.curves import METHODS, Curve
from ghn_pipeline.report.table import Table, to_latex
from ghn_pipeline.system.errors import UserError

BUDGETS = (1e6, 5e6)
NONE = "\N{EN DASH}"
AREA = "Area (%), mean ± deviation [90% interval]"
RNG = np.random.default_rng(1)


def curve(level: float) -> Curve:
    spent = np.sort(1000 * RNG.integers(200, 6000, 6))  # so that the loop below is exact
    return Curve([int(x) for x in spent], [float(level + y) for y in RNG.uniform(0, 0.3, 6)])


def slow_area(curve: Curve) -> float:
    """The mean of what is reached at every thousandth multiply-add of the range."""
    at = np.arange(*BUDGETS, 1000) + 500
    pairs = list(zip(curve.spent, curve.accuracies, strict=True))
    return mean([0.0, *(y for x, y in pairs if x <= budget)][-1] for budget in at)


def group(count: int, level: float) -> Group:
    curves = [curve(level) for _ in range(count)]
    return Group(curves, [slow_area(c) / 2 + RNG.normal(0, 0.03) for c in curves])


GROUPS = {"random": group(12, 0.3), "top": group(6, 0.5)}
AREAS = {key: [slow_area(c) for c in one.curves] for key, one in GROUPS.items()}


def found_of(groups: dict[str, Group] = GROUPS) -> Found:
    return measure(groups, budgets=BUDGETS, confidence=0.9)


def build(groups: dict[str, Group] = GROUPS, scale: str = "quick") -> Table:
    return groups_table(
        found_of(groups),
        scale=scale,
        scale_note="quick preset (16×16 images)",
        budgets=BUDGETS,
        confidence=0.9,
    )


def cells(table: Table, row: str) -> dict[str, str]:
    (found,) = (cells for cells in table.rows if cells[0] == row)
    return dict(zip([heading for _, heading in table.columns], found, strict=True))


def test_areas_and_their_intervals_by_students_t():
    table, found = build(), found_of()
    for key, name in (("top", "GHN Top"), ("random", "Random")):
        n, one = len(AREAS[key]), found.areas[key]
        reach = stats.t.ppf(0.95, n - 1) * stdev(AREAS[key]) / math.sqrt(n)
        middle = mean(AREAS[key])
        assert one.mean.value == pytest.approx(middle, abs=1e-4)
        assert (one.mean.low, one.mean.high) == pytest.approx(
            (middle - reach, middle + reach), abs=1e-4
        )
        assert one.deviation == pytest.approx(stdev(AREAS[key]), abs=1e-4)
        row = cells(table, name)
        assert row["Number"] == str(n)
        shown = [100 * x for x in (one.mean.value, one.deviation, one.mean.low, one.mean.high)]
        assert row[AREA] == "{:.2f} ± {:.2f} [{:.2f}, {:.2f}]".format(*shown)


def test_the_difference_is_welchs():
    difference = found_of().difference
    assert difference is not None
    value = mean(AREAS["top"]) - mean(AREAS["random"])
    assert difference.value == pytest.approx(value, abs=1e-4)
    theirs = stats.ttest_ind(AREAS["top"], AREAS["random"], equal_var=False)
    ends = theirs.confidence_interval(0.9)
    assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high), abs=1e-4)
    shown = [f"{100 * x:.2f}" for x in (difference.value, difference.low, difference.high)]
    row = cells(build(), "Difference of the means")
    assert row[AREA] == f"{shown[0]} [{shown[1]}, {shown[2]}]"
    assert set(list(row.values())[1:]) == {NONE, row[AREA]}


def test_equal_groups_differ_by_nothing_but_not_for_certain():
    """Paired, the difference of two equal groups would always be 0."""
    found = found_of({"top": GROUPS["random"], "random": GROUPS["random"]})
    assert found.difference is not None
    assert found.difference.value == 0
    one = found.areas["top"].mean
    width = found.difference.high - found.difference.low
    # the variance of a difference of independent means is the sum of theirs, and better known
    freer = stats.t.ppf(0.95, 22) / stats.t.ppf(0.95, 11)
    assert width == pytest.approx(math.sqrt(2) * freer * (one.high - one.low))


def test_correlations_are_scipys_and_too_few_have_no_interval():
    both = tuple(a + b for a, b in zip(_pair("top"), _pair("random"), strict=True))
    found, table = found_of(), build()
    for key, name, (x, y) in (
        ("top", "GHN Top", _pair("top")),
        ("random", "Random", _pair("random")),
        ("both", "Both", both),
    ):
        for coefficient, function in (
            ("pearson", stats.pearsonr),
            ("spearman", stats.spearmanr),
            ("kendall", stats.kendalltau),
        ):
            one = found.correlations[key][coefficient]
            assert one.value == pytest.approx(function(x, y).statistic, abs=1e-3)
            ends = "too few" if key == "top" else f"{one.low:.2f}, {one.high:.2f}"
            shown = cells(table, name)[f"{coefficient.capitalize()} [90% interval]"]
            assert shown == f"{one.value:.2f} [{ends}]"
    r, x, y = found.correlations["random"]["pearson"], *map(np.array, _pair("random"))
    without = [stats.pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(12)]
    error = math.sqrt(11 / 12 * sum((np.array(without) - mean(without)) ** 2)) / (1 - r.value**2)
    reach = stats.t.ppf(0.95, 11) * error
    ends = [math.tanh(math.atanh(r.value) + side * reach) for side in (-1, 1)]
    assert (r.low, r.high) == pytest.approx(tuple(ends), abs=1e-3)
    assert cells(table, "Both")["Number"] == "18"
    assert cells(table, "Both")[AREA] == NONE


def _pair(key: str) -> tuple[list[float], list[float]]:
    return list(GROUPS[key].predicted), AREAS[key]


def test_rows_are_in_order_and_say_what_was_not_run():
    names = ["GHN Top", "Random", "Difference of the means", "Both"]
    assert [row[0] for row in build().rows] == names
    table = build({"random": GROUPS["random"]})
    assert [row[0] for row in table.rows] == names
    assert table.rows[1] == build().rows[1]  # what else was run does not matter
    assert set(table.rows[0][1:]) == {"not run"}
    assert table.rows[2][1:] == (NONE, "not run", NONE, NONE, NONE)
    assert table.rows[3][1:] == ("not run", NONE, "not run", "not run", "not run")


def test_one_network_has_neither_deviation_nor_interval_and_two_no_correlation():
    one = Group(GROUPS["top"].curves[:1], GROUPS["top"].predicted[:1])
    table = build({**GROUPS, "top": one})
    area = f"{100 * AREAS['top'][0]:.2f}"
    assert table.rows[0] == ("GHN Top", "1", area, NONE, NONE, NONE)
    difference = 100 * (AREAS["top"][0] - mean(AREAS["random"]))
    assert table.rows[2][2] == f"{difference:.2f}"
    two = Group(GROUPS["top"].curves[:2], GROUPS["top"].predicted[:2])
    table = build({**GROUPS, "top": two})
    assert table.rows[0][1] == "2"
    assert "±" in table.rows[0][2]
    assert table.rows[0][3:] == (NONE, NONE, NONE)
    assert NONE not in table.rows[3][3:]


def test_constant_predictions_leave_the_correlation_undefined():
    table = build({**GROUPS, "top": replace(GROUPS["top"], predicted=[0.1] * 6)})
    assert table.rows[0][3:] == ("undefined",) * 3
    numbers = metrics(found_of({"top": replace(GROUPS["top"], predicted=[0.1] * 6)}))
    assert numbers["top"]["pearson"] is None


def test_metrics_are_numbers_for_json():
    found = found_of()
    numbers = json.loads(json.dumps(metrics(found), allow_nan=False))
    assert numbers.keys() == {"top", "random", "difference", "both"}
    assert numbers["top"]["area"] == pytest.approx(mean(AREAS["top"]), abs=1e-4)
    assert numbers["top"]["area_sd"] == pytest.approx(stdev(AREAS["top"]), abs=1e-4)
    assert found.difference == Estimate(
        *(numbers["difference"][name] for name in ("area", "area_low", "area_high"))
    )
    assert numbers["both"] == {name: e.value for name, e in found.correlations["both"].items()}
    single = Group(GROUPS["top"].curves[:1], GROUPS["top"].predicted[:1])
    numbers = metrics(found_of({"top": single}))
    assert numbers == {"top": {"area": pytest.approx(AREAS["top"][0], abs=1e-4), "area_sd": None}}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UserError, match="5 predicted areas for 6 networks of GHN Top"):
        build({"top": replace(GROUPS["top"], predicted=GROUPS["top"].predicted[1:])})
    for wrong in ({"top": Group([], [])}, {"middle": GROUPS["top"]}):
        with pytest.raises(ValueError, match="in the groups top, random"):
            build(wrong)


def methods_of(methods: dict[str, Method], scale: str = "quick") -> Table:
    note = "quick preset (16×16 images)"
    return methods_table(methods, scale=scale, scale_note=note)


def test_a_method_has_its_area_last_accuracy_and_costs():
    by_hand = Curve([2_000_000, 3_000_000, 4_000_000, 12_345_678], [0.5, 0.4, 0.8, 0.7251])
    other = Curve([1_000_000, 5_000_000], [0.3, 0.6])
    table = methods_of({"msdnet": Method(by_hand, 481_234), "ghn": Method(other, 1_200_000)})
    assert [row[0] for row in table.rows] == list(METHODS.values())
    # both predict from 2 to 5; the second exit is worse
    area = (0.5 + 0.4 + 0.8) / 3
    assert table.rows[1][1:] == ("4", f"{100 * area:.2f}", "72.51", "2.00", "12.3", "0.481")
    assert table.rows[0][1:] == ("2", "30.00", "60.00", "1.00", "5.00", "1.20")
    assert "budgets of 2 to 5 million multiply-adds" in table.footnotes[0]
    late = Curve([6_000_000, 7_000_000], [0.3, 0.6])
    apart = methods_of({"msdnet": Method(late, 1), "ghn": Method(other, 1)})
    assert [row[2] for row in apart.rows[:2]] == ["\N{EN DASH}"] * 2
    assert "no budget" in apart.footnotes[0]
    for row in table.rows[2:]:
        assert set(row[1:]) == {"not run"}
    with pytest.raises(ValueError, match="magic"):
        methods_of({"magic": Method(by_hand, 1)})


ONE = {"ghn": Method(Curve([1_000_000, 5_000_000], [0.3, 0.6]), 1)}


def test_titles_and_notes_say_the_scale_the_range_and_the_interval():
    for table, full in (
        (build(), build(scale="paper")),
        (methods_of(ONE), methods_of(ONE, scale="paper")),
    ):
        assert table.title.startswith(
            "Anytime prediction \N{EM DASH} quick preset (16×16 images), not the paper's scale. "
        )
        assert "not the paper's" not in full.title
        notes = " ".join(table.footnotes)
        for part in ("budgets of 1 to 5 million multiply-adds", "'not run'", "test images"):
            assert part in notes
        assert to_latex(table).isascii()
    notes = " ".join(build().footnotes)
    assert "90% interval over the networks, of means by Student's t" in notes
    assert "'too few'" in notes
