"""Table 4: the paper's rows in the paper's order, our numbers where they were measured."""

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking.correlation import Estimate, correlate
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.report.correlations import Bootstrap, metrics, show
from ghn_pipeline.report.paper.table4 import Row, measure_rows, summary, table4
from ghn_pipeline.report.table import Table, to_csv, to_latex, to_markdown
from ghn_pipeline.system.errors import UserError

BOOTSTRAP = Bootstrap(resamples=200, confidence=0.95, seed=5)
NONE = "\N{EN DASH}"


def row(initial: float | None = None, each: float = 0.012, n: int = 24, seed: int = 0) -> Row:
    generator = np.random.default_rng(seed)
    truth = generator.normal(0.6, 0.08, n)
    return Row(initial, each, truth / 2 + generator.normal(0, 0.04, n), truth)


ROWS = {"ghn": row(612.0, 0.0039, seed=1), "sgd-50": row(seed=2), "sgd-10": row(seed=3)}


def build(
    rows: dict[str, Row] = ROWS,
    *,
    scale: str = "quick",
    architectures: int = 24,
    costs: bool = True,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Table:
    return table4(
        rows,
        measure_rows(rows, architectures, bootstrap),
        scale=scale,
        scale_note="quick preset (16 by 16 images)",
        architectures=architectures,
        costs=costs,
        bootstrap=bootstrap,
    )


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
    ]


def with_proxies() -> dict[str, Row]:
    """Rows with those of all proxies before them, in the reverse of their order."""
    proxies = {key: row(seed=i) for i, key in enumerate(PROXIES, 4)}
    return {**dict(reversed(proxies.items())), **ROWS}


def test_proxies_come_last_in_their_own_order():
    assert [row[0] for row in build(with_proxies()).rows][5:] == [
        "One-Shot",
        "GHN",
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
    assert list(measure_rows(with_proxies(), 24, BOOTSTRAP))[3:] == list(PROXIES)


def test_a_proxy_has_our_numbers_and_none_of_the_paper():
    rows = with_proxies()
    found, measured = cells(build(rows), "GraSP"), rows["grasp"]
    assert {cell for heading, cell in found.items() if "paper" in heading} == {NONE}
    assert found["Initial (accelerator hours)|ours"] == NONE
    assert found["Per architecture (accelerator seconds)|ours"] == "0.012"
    expected = correlate(measured.predicted, measured.truth, **asdict(BOOTSTRAP))
    for heading, name in (("Pearson R", "pearson"), ("Spearman", "spearman")):
        assert found[f"{heading}|Random-24 [95% interval]"] == show(expected[name])
    lines = summary(measure_rows(rows, 24, BOOTSTRAP), 24).splitlines()
    assert lines[-1].startswith("Jacobian Covariance: Pearson R ")


def test_a_footnote_says_which_rows_are_not_the_papers_and_where_they_are_from():
    assert not any("rivals" in note for note in build().footnotes)
    (note,) = (
        n for n in build({**ROWS, "snip": row(), "fisher": row()}).footnotes if "rivals" in n
    )
    assert note.startswith("SNIP, Fisher: rivals that are not in the paper's table.")
    assert "Abdelfattah et al." in note
    assert note.endswith("ICLR 2021.")


def test_headings_say_how_many_architectures():
    headings = [heading for _, heading in build().columns]
    assert headings[5:9] == [
        "Random-24 [95% interval]",
        "paper, Random-100",
        "Top-12 [95% interval]",
        "paper, Top-50",
    ]
    odd = build({"ghn": row(n=25)}, architectures=25, bootstrap=Bootstrap(200, 0.9, 5))
    assert odd.columns[7] == ("Pearson R", "Top-13 [90% interval]")


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
    table = build({"sgd-10": replace(ROWS["sgd-10"], per_architecture_seconds=seconds)})
    found = cells(table, "SGD 10 Steps")
    assert found["Per architecture (accelerator seconds)|ours"] == shown


def test_correlations_are_those_of_correlate():
    found, measured = cells(build(), "GHN"), ROWS["ghn"]
    everything = correlate(measured.predicted, measured.truth, **asdict(BOOTSTRAP))
    half = measured.truth >= np.median(measured.truth)
    top = np.corrcoef(measured.predicted[half], measured.truth[half])[0, 1]
    assert found["Pearson R|Random-24 [95% interval]"] == show(everything["pearson"])
    assert found["Spearman|Random-24 [95% interval]"] == show(everything["spearman"])
    assert found["Kendall|Random-24 [95% interval]"] == show(everything["kendall"])
    assert found["Pearson R|Top-12 [95% interval]"].startswith(f"{top:.2f} [")
    assert found["Pearson R|paper, Random-100"] == "0.68"
    assert found["Pearson R|paper, Top-50"] == "0.48"


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
    slower = {
        key: replace(row, initial_seconds=7.0, per_architecture_seconds=8.0)
        for key, row in ROWS.items()
    }
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
    constant = replace(ROWS["ghn"], predicted=np.full(24, 0.1))
    found = cells(build({"ghn": constant}), "GHN")
    assert found["Pearson R|Random-24 [95% interval]"] == "undefined"
    measured = measure_rows({"ghn": constant}, 24, BOOTSTRAP)
    assert "GHN: Pearson R undefined over 24" in summary(measured, 24)
    assert set(metrics(measured)["ghn"].values()) == {None}
    # a proxy too, whose constant may be any number
    constant = replace(ROWS["ghn"], predicted=np.full(24, -1e9))
    found = cells(build({"jacob_cov": constant}), "Jacobian Covariance")
    assert found["Kendall|Top-12 [95% interval]"] == "undefined"


def test_a_row_on_other_architectures_is_refused():
    with pytest.raises(UserError, match="row sgd-10 of Table 4 was measured on 9"):
        build({"sgd-10": row(n=9)})


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="magic"):
        build({"magic": row()})


def test_summary_has_a_line_a_method_in_order():
    lines = summary(measure_rows(ROWS, 24, BOOTSTRAP), 24).splitlines()
    assert [line.split(":")[0] for line in lines] == ["SGD 10 Steps", "SGD 50 Steps", "GHN"]
    number = r"-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]"
    pattern = (
        rf"GHN: Pearson R {number} over 24 architectures; better half {number}; "
        rf"Spearman {number}; Kendall {number}"
    )
    assert re.fullmatch(pattern, lines[-1])
    assert cells(build(), "GHN")["Pearson R|Random-24 [95% interval]"] in lines[-1]


def test_metrics_are_the_coefficients_in_order():
    found = metrics(measure_rows(ROWS, 24, BOOTSTRAP))
    assert list(found) == ["sgd-10", "sgd-50", "ghn"]
    for key, values in found.items():
        x, y = ROWS[key].predicted, ROWS[key].truth
        top = np.argsort(y)[12:]
        for name, coefficient in (
            ("pearson", stats.pearsonr),
            ("spearman", stats.spearmanr),
            ("kendall", stats.kendalltau),
        ):
            assert values[name] == pytest.approx(coefficient(x, y).statistic)
            half = coefficient(x[top], y[top]).statistic
            assert values[f"{name}_better_half"] == pytest.approx(half)


def test_show():
    assert show(Estimate(0.684, 0.551, 0.779)) == "0.68 [0.55, 0.78]"
    assert show(Estimate(np.nan, np.nan, np.nan)) == "undefined"
