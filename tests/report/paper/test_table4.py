"""Table 4: the paper's rows in the paper's order, our numbers where they were measured."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.ranking.intervals import Agreement, Reliability, reliability
from ghn_pipeline.ranking.methods import Comparison, Method
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.report.correlations import metrics, show
from ghn_pipeline.report.paper.table4 import Found, measure_rows, summary, table4
from ghn_pipeline.report.table import Table, to_csv, to_latex, to_markdown
from ghn_pipeline.system.errors import UserError

NONE = "\N{EN DASH}"
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(0.6, 0.08, 24)
VALIDATION = TRUTH + RNG.normal(0, 0.03, 24)
COEFFICIENTS = {
    "Pearson R": stats.pearsonr,
    "Spearman": stats.spearmanr,
    "Kendall": stats.kendalltau,
}
SCIPY = dict(zip(("pearson", "spearman", "kendall"), COEFFICIENTS.values(), strict=True))
ALL, HALF = np.arange(24), np.argsort(-TRUTH)[:12]
LEAD = "GHN's R less this"


def method(noise: float, seeds: int = 1, *, labels: int = 0, n: int = 24) -> Method:
    generator = np.random.default_rng([round(1000 * noise), seeds])
    drawn = tuple(TRUTH[:n] / 2 + generator.normal(0, noise, n) for _ in range(seeds))
    return Method(drawn, None, 0.012, f"noise of {noise}", labels)


ROWS = {
    "ghn": replace(method(0.03, 2, labels=300), initial_seconds=612.0, each_seconds=0.0039),
    "ghn/likelihood": method(0.02, 2, labels=300),
    "sgd-50": method(0.04),
    "sgd-10": method(0.06),
}


def measured(
    rows: Mapping[str, Method], truth: np.ndarray = TRUTH, confidence: float = 0.95
) -> dict[str, Found]:
    validation = VALIDATION[: len(truth)]
    return measure_rows(
        Comparison(rows, truth, confidence), Comparison(rows, validation, confidence)
    )


def build(
    rows: Mapping[str, Method] = ROWS,
    *,
    truth: np.ndarray = TRUTH,
    relied_on: Reliability | None = None,
    scale: str = "quick",
    costs: bool = True,
    confidence: float = 0.95,
) -> Table:
    return table4(
        rows,
        measured(rows, truth, confidence),
        relied_on,
        scale=scale,
        scale_note="quick preset (16 by 16 images)",
        architectures=len(truth),
        costs=costs,
        confidence=confidence,
    )


def mean(coefficient: object, row: Method, over: np.ndarray, truth: np.ndarray = TRUTH) -> float:
    """The mean over seeds of one of scipy's coefficients."""
    found = [coefficient(x[over], truth[over]).statistic for x in row.predictions]
    return sum(found) / len(found)


def cells(table: Table, method: str) -> dict[str, str]:
    headings = [f"{group}|{heading}" for group, heading in table.columns]
    (found,) = (row for row in table.rows if row[0] == method)
    return dict(zip(headings, found, strict=True))


def test_rows_are_the_papers_with_ours_in_order():
    assert [row[0] for row in build().rows] == [
        "SGD 10 Steps",
        "SGD 50 Steps",
        "SGD 100 Steps",
        "SGD 200 Steps",
        "SGD 1000 Steps",
        "One-Shot",
        "GHN",
        "GHN, by likelihood",
    ]


def test_rows_by_accuracy_and_by_likelihood_stand_side_by_side():
    rows = {"ghn/likelihood": method(0.1), "oneshot/likelihood": method(0.1), "ghn": method(0.1)}
    rows = {**rows, "sgd-10": method(0.1), "oneshot": method(0.1)}
    assert [row[0] for row in build(rows).rows][-4:] == [
        "One-Shot",
        "One-Shot, by likelihood",
        "GHN",
        "GHN, by likelihood",
    ]
    # the paper's figures are by accuracy
    found = cells(build(rows), "GHN, by likelihood")
    assert {cell for heading, cell in found.items() if "paper" in heading} == {NONE}
    assert list(measured(rows)) == ["sgd-10", "oneshot", "oneshot/likelihood", *list(ROWS)[:2]]


def with_proxies() -> dict[str, Method]:
    """Rows with those of all proxies before them, in the reverse of their order."""
    proxies = {key: method(0.1) for key in PROXIES}
    return {**dict(reversed(proxies.items())), **ROWS}


def test_proxies_come_last_in_their_own_order():
    assert [row[0] for row in build(with_proxies()).rows][5:] == [
        "One-Shot",
        "GHN",
        "GHN, by likelihood",
        # in the order of `search.proxies`
        "Parameters",
        "Multiply-Adds",
        "Gradient Norm",
        "SNIP",
        "GraSP",
        "Fisher",
        "SynFlow",
        "Jacobian Covariance",
    ]
    assert list(measured(with_proxies()))[4:] == list(PROXIES)


def test_a_proxy_has_our_numbers_and_none_of_the_paper():
    rows = with_proxies()
    found = cells(build(rows), "GraSP")
    assert {cell for heading, cell in found.items() if "paper" in heading} == {NONE}
    assert found["Initial (accelerator hours)|ours"] == NONE
    assert found["Per architecture (accelerator seconds)|ours"] == "0.012"
    for heading, coefficient in COEFFICIENTS.items():
        expected = mean(coefficient, rows["grasp"], ALL)
        assert found[f"{heading}|Random-24 [95% interval]"].startswith(f"{expected:.2f} [")
    lines = summary(measured(rows), 24).splitlines()
    assert lines[-1].startswith("Jacobian Covariance: Pearson R ")


def test_a_footnote_says_which_rows_are_not_the_papers_and_where_they_are_from():
    assert not any("not in the paper's table" in note for note in build().footnotes)
    rows = {**ROWS, "snip": method(0.1), "fisher": method(0.1)}
    (note,) = (note for note in build(rows).footnotes if "not in the paper's table" in note)
    assert note.startswith("SNIP, Fisher: ")
    assert "Abdelfattah et al." in note
    assert note.endswith("ICLR 2021.")


def test_headings_say_how_many_architectures():
    headings = [heading for _, heading in build().columns]
    assert headings[8:12] == [
        "Random-24 [95% interval]",
        "paper, Random-100",
        "Top-12 [95% interval]",
        "paper, Top-50",
    ]
    odd = build({"ghn": method(0.1, n=23)}, truth=TRUTH[:23], confidence=0.9)
    assert odd.columns[10] == ("Pearson R", "Top-12 [90% interval]")


def test_given_seeds_and_labels():
    found = {
        row[0]: tuple(cells(build(), row[0])[f"|{key}"] for key in ("Given", "Seeds", "Labels"))
        for row in build().rows
    }
    assert found["GHN"] == ("noise of 0.03", "2", "300")
    assert found["SGD 50 Steps"] == ("noise of 0.04", "1", "0")
    assert found["One-Shot"] == ("not run",) * 3
    assert any("Labels: architectures whose accuracies chose" in n for n in build().footnotes)


def test_costs_ours_in_the_papers_units_beside_the_papers():
    found = cells(build(), "GHN")
    assert found["Initial (accelerator hours)|ours"] == "0.17"  # 612 s
    assert found["Initial (accelerator hours)|paper"] == "6.1"
    assert found["Per architecture (accelerator seconds)|ours"] == "0.0039"
    assert found["Per architecture (accelerator seconds)|paper"] == "0.08"
    assert cells(build(), "SGD 10 Steps")["Initial (accelerator hours)|ours"] == NONE


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.000123, "0.00012"), (0.06, "0.060"), (8.96, "9.0"), (123.0, "120"), (0.0, "0.0")],
)
def test_costs_have_two_significant_digits(seconds, shown):
    table = build({"sgd-10": replace(ROWS["sgd-10"], each_seconds=seconds)})
    found = cells(table, "SGD 10 Steps")
    assert found["Per architecture (accelerator seconds)|ours"] == shown


def test_correlations_are_scipys_in_the_mean_over_seeds():
    found = cells(build(), "GHN")
    for heading, coefficient in COEFFICIENTS.items():
        for column, over in (("Random-24", ALL), ("Top-12", HALF)):
            value = mean(coefficient, ROWS["ghn"], over)
            assert found[f"{heading}|{column} [95% interval]"].startswith(f"{value:.2f} [")
    assert found["Pearson R|paper, Random-100"] == "0.68"
    assert found["Pearson R|paper, Top-50"] == "0.48"


def test_the_interval_of_one_seed_is_fishers_by_the_architectures_left_out():
    x = ROWS["sgd-50"].predictions[0]
    r = float(np.corrcoef(x, TRUTH)[0, 1])
    without = [np.corrcoef(np.delete(x, i), np.delete(TRUTH, i))[0, 1] for i in range(24)]
    error = np.sqrt(23 / 24 * sum((without - np.mean(without)) ** 2)) / (1 - r**2)
    low, high = np.tanh(np.arctanh(r) + stats.t.ppf([0.025, 0.975], 23) * error)
    shown = cells(build(), "SGD 50 Steps")["Pearson R|Random-24 [95% interval]"]
    assert shown == f"{r:.2f} [{low:.2f}, {high:.2f}]"


def test_the_difference_to_the_ghn_is_paired_and_by_the_same_measure():
    rows = {**ROWS, "oneshot": method(0.08, 3), "oneshot/likelihood": method(0.02, 3)}
    made = build(rows)
    for name, key, ghn in (
        ("SGD 10 Steps", "sgd-10", "ghn"),
        ("One-Shot", "oneshot", "ghn"),
        ("One-Shot, by likelihood", "oneshot/likelihood", "ghn/likelihood"),
    ):
        both = Agreement({of: rows[of].predictions for of in (ghn, key)}, TRUTH)
        for column, over in (("Random-24", ALL), ("Top-12", HALF)):
            value = mean(stats.pearsonr, rows[ghn], over) - mean(stats.pearsonr, rows[key], over)
            shown = cells(made, name)[f"{LEAD}|{column}"]
            assert shown.startswith(f"{value:+.2f} [")
        paired = both.contrast({ghn: 1, key: -1}, 0.95)["pearson"]
        assert cells(made, name)[f"{LEAD}|Random-24"] == show(paired, sign=True)
    for name in ("GHN", "GHN, by likelihood"):
        assert {cells(made, name)[f"{LEAD}|{column}"] for column in ("Random-24", "Top-12")} == {
            NONE
        }
    alone = build({"sgd-10": ROWS["sgd-10"]})
    assert cells(alone, "SGD 10 Steps")[f"{LEAD}|Random-24"] == NONE


def test_the_truth_on_validation_images_has_a_column_of_its_own():
    made, column = build(), "Pearson R, truth on validation images|Random-24"
    for name, key in (("GHN", "ghn"), ("SGD 10 Steps", "sgd-10")):
        value = mean(stats.pearsonr, ROWS[key], ALL, VALIDATION)
        assert cells(made, name)[column].startswith(f"{value:.2f} [")
        assert f"{value:.2f}" != f"{mean(stats.pearsonr, ROWS[key], ALL):.2f}"


def test_too_few_architectures_have_no_interval():
    rows = {"ghn": method(0.03, n=9), "sgd-10": method(0.04, n=9)}
    found = cells(build(rows, truth=TRUTH[:9]), "SGD 10 Steps")
    r = {key: stats.pearsonr(rows[key].predictions[0], TRUTH[:9]).statistic for key in rows}
    assert found["Pearson R|Random-9 [95% interval]"] == f"{r['sgd-10']:.2f} [too few]"
    assert found[f"{LEAD}|Random-9"] == f"{r['ghn'] - r['sgd-10']:+.2f} [too few]"
    # of 18 the better half are 9
    halved = cells(build({"ghn": method(0.03, n=18)}, truth=TRUTH[:18]), "GHN")
    assert halved["Pearson R|Top-9 [95% interval]"].endswith(" [too few]")
    assert re.fullmatch(r".* \[.*, .*\]", halved["Pearson R|Random-18 [95% interval]"])
    assert any("'too few': too few architectures" in note for note in build().footnotes)


def test_a_footnote_says_how_far_the_truth_can_be_relied_on():
    (note,) = (note for note in build().footnotes if "relied on" in note)
    assert note.endswith("was not measured (correlation.repeats).")
    again = TRUTH[:20] + np.random.default_rng(1).normal(0, 0.03, 20)
    relied_on = reliability(TRUTH[:20], again, confidence=0.95)
    (note,) = (n for n in build(relied_on=relied_on).footnotes if n.startswith("Reliability"))
    r = stats.pearsonr(TRUTH[:20], again).statistic
    assert f"R {r:.2f} [" in note
    assert "over 20 architectures" in note
    assert f"larger R than {r**0.5:.2f} [" in note


def test_a_row_of_the_paper_that_was_not_run():
    found = cells(build(), "One-Shot")
    paper = {heading: cell for heading, cell in found.items() if "paper" in heading}
    assert list(paper.values()) == ["9.8", "0.06", "0.58", "0.31"]
    ours = found.keys() - paper.keys() - {"|Method"}
    assert {found[heading] for heading in ours} == {"not run"}


def test_a_row_that_the_paper_has_not():
    found = cells(build(), "SGD 50 Steps")
    assert {cell for heading, cell in found.items() if "paper" in heading} == {NONE}
    assert found["Per architecture (accelerator seconds)|ours"] == "0.012"


def test_without_costs_equal_accuracies_give_equal_bytes():
    slower = {key: replace(row, initial_seconds=7.0, each_seconds=8.0) for key, row in ROWS.items()}
    for render in (to_csv, to_markdown, to_latex):
        assert render(build(costs=False)) == render(build(slower, costs=False))
        assert render(build()) != render(build(slower))
    found = cells(build(costs=False), "GHN")
    assert found["Initial (accelerator hours)|ours"] == "not timed"
    assert found["Per architecture (accelerator seconds)|ours"] == "not timed"
    assert found["Per architecture (accelerator seconds)|paper"] == "0.08"


def test_the_title_says_when_the_scale_is_not_the_papers():
    expected = "Table 4 \N{EM DASH} quick preset (16 by 16 images), not the paper's scale."
    assert build().title.startswith(expected)
    assert "not the paper's" not in build(scale="paper").title


def test_constant_predictions_are_undefined():
    constant = replace(ROWS["ghn"], predictions=(np.full(24, 0.191589),))
    found = cells(build({"ghn": constant}), "GHN")
    assert found["Pearson R|Random-24 [95% interval]"] == "undefined"
    rows = {**ROWS, "ghn": constant}
    assert cells(build(rows), "SGD 10 Steps")[f"{LEAD}|Random-24"] == "undefined"
    assert "GHN: Pearson R undefined over 24" in summary(measured(rows), 24)
    numbers = metrics({key: one.by_test for key, one in measured(rows).items()})
    assert set(numbers["ghn"].values()) == {None}
    # a proxy too, whose constant may be any number
    constant = replace(ROWS["ghn"], predictions=(np.full(24, -1e9),))
    found = cells(build({"jacob_cov": constant}), "Jacobian Covariance")
    assert found["Kendall|Top-12 [95% interval]"] == "undefined"


def test_a_row_on_other_architectures_is_refused():
    with pytest.raises(UserError, match="9 predicted accuracies cannot be compared with 24"):
        build({"sgd-10": method(0.1, n=9)})


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="magic"):
        build({"magic": method(0.1)})


def test_summary_has_a_line_a_method_in_order():
    lines = summary(measured(ROWS), 24).splitlines()
    names = ["SGD 10 Steps", "SGD 50 Steps", "GHN", "GHN, by likelihood"]
    assert [line.split(":")[0] for line in lines] == names
    number = r"-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]"
    pattern = (
        rf"GHN: Pearson R {number} over 24 architectures; better half {number}; "
        rf"Spearman {number}; Kendall {number}"
    )
    assert re.fullmatch(pattern, lines[2])
    assert cells(build(), "GHN")["Pearson R|Random-24 [95% interval]"] in lines[2]


def test_metrics_are_the_coefficients_in_order():
    found = metrics({key: one.by_test for key, one in measured(ROWS).items()})
    assert list(found) == ["sgd-10", "sgd-50", "ghn", "ghn/likelihood"]
    for key, values in found.items():
        for name, coefficient in SCIPY.items():
            assert values[name] == pytest.approx(mean(coefficient, ROWS[key], ALL))
            half = mean(coefficient, ROWS[key], HALF)
            assert values[f"{name}_better_half"] == pytest.approx(half)


def test_show():
    assert show(Estimate(0.684, 0.551, 0.779)) == "0.68 [0.55, 0.78]"
    assert show(Estimate(np.nan, np.nan, np.nan)) == "undefined"
    assert show(Estimate(0.684, np.nan, np.nan)) == "0.68 [too few]"
    assert show(Estimate(0.104, -0.051, 0.2), sign=True) == "+0.10 [-0.05, +0.20]"
