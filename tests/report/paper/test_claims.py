"""The page of claims: verdicts follow intervals, and every claim has a row."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.paper import claims_page, numbers
from ghn_pipeline.report.paper.claims import (
    Finding,
    claims,
    claims_table,
    counted,
    found,
    from_json,
    shown,
    to_json,
)
from ghn_pipeline.report.paper.forest import COLOURS, forest

NAN = math.nan


def finding(claim: int, value: float, low: float, high: float, **more: object) -> Finding:
    return found(claim, Estimate(value, low, high), "quick", "100 architectures", **more)


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        (2, 0.01, 0.3, "supported"),
        (2, -0.3, -0.01, "contradicted"),
        (2, -0.1, 0.3, "undecided"),
        (2, NAN, NAN, "undecided"),
        (6, 1001, 2000, "supported"),  # over 1,000 times
        (6, 900, 2000, "undecided"),
        (6, 10, 20, "contradicted"),
        (7, 0.5, 0.9, "supported"),  # less than once the hours
        (7, 1.1, 1.2, "contradicted"),
    ],
)
def test_an_interval_without_the_null_decides(
    claim: int, low: float, high: float, verdict: str
) -> None:
    assert finding(claim, (low + high) / 2, low, high).verdict == verdict


def test_a_counted_effect_needs_no_interval() -> None:
    assert finding(18, 0.0, 0.0, 0.0, exact=True).verdict == "supported"
    assert finding(18, 1.2, 1.2, 1.2, exact=True).verdict == "contradicted"


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    four, five = numbers.table("table4")["rows"], numbers.table("table5")["rows"]
    one = numbers.table("table1")["rows"]
    ghn, oneshot, sgd = four["ghn"], four["oneshot"], four["sgd-1000"]
    sgd_tops = [row["top"] for key, row in four.items() if key.startswith("sgd")]
    expected = {
        1: ghn["random"],
        2: ghn["random"] - oneshot["random"],
        3: ghn["top"] - oneshot["top"],
        4: sgd["random"] - ghn["random"],
        5: ghn["top"] - max(sgd_tops),
        6: sgd["per_architecture"] / ghn["per_architecture"],
        7: ghn["initial"] / oneshot["initial"],
        9: ghn["random"],
        12: five["stacked"]["random"] - five["individual"]["random"],
        13: five["stacked-shared"]["random"] - five["stacked"]["random"],
        14: one["ghn-top"]["accuracy"] - one["random"]["accuracy"],
        15: one["ghn-top"]["search_cost"] / one["oneshot-top-32"]["search_cost"],
    }
    for number, value in expected.items():
        assert claims()[number].paper == pytest.approx(value, abs=0.006), number


def test_there_are_18_claims_and_each_has_a_row() -> None:
    assert list(claims()) == list(range(1, 19))
    table = claims_table([finding(1, 0.5, 0.4, 0.6)], {})
    assert [row[0] for row in table.rows] == [str(n) for n in range(1, 19)]
    verdict = [heading for _, heading in table.columns].index("Verdict")
    assert [row[verdict] for row in table.rows] == ["supported"] + ["not run"] * 17


def test_an_effect_beside_another_decides_nothing() -> None:
    beside = finding(2, 0.2, 0.1, 0.3, by="by accuracy", main=False)
    main = finding(2, 0.1, -0.1, 0.3, by="by likelihood")
    assert counted([beside, main]).startswith("0 of 18 decided")
    assert counted([beside, replace(beside, main=True)]).startswith("1 of 18 decided")
    table = claims_table([beside, main], {})
    verdict = [heading for _, heading in table.columns].index("Verdict")
    assert [row[verdict] for row in table.rows if row[0] == "2"] == ["undecided", "(supported)"]


def test_evidence_of_older_code_says_so() -> None:
    row = claims_table([finding(1, 0.5, 0.4, 0.6)], {"quick": "older code"}).rows[0]
    assert "quick (older code)" in row


def test_findings_survive_json() -> None:
    both = [finding(1, 0.123456789, 0.1, 0.2), finding(6, 1e4 / 3, NAN, NAN, fair="seeds: 1 and 3")]
    again = from_json(to_json(both))
    assert [one.value for one in again] == pytest.approx([one.value for one in both], rel=1e-5)
    assert math.isnan(again[1].low)
    assert to_json(again) == to_json(both)


def test_shown() -> None:
    assert shown(finding(1, 0.5, 0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert shown(finding(6, 1234.6, NAN, NAN)) == "1,235"


def test_the_figure_has_a_mark_for_every_finding_in_the_colour_of_its_verdict() -> None:
    findings = [
        finding(2, 0.2, 0.1, 0.3),
        finding(3, -0.2, -0.3, -0.1),
        finding(14, 1.0, -0.5, 2.5),
        finding(7, 0.5, 0.4, 0.6),
        finding(9, 0.9, 0.8, 1.0, main=False),
    ]
    drawn = forest(findings)
    marks = [
        (line.get_color(), float(line.get_xdata()[0]))
        for axes in drawn.axes
        for line in axes.get_lines()
        if line.get_marker() == "o"
    ]
    # every panel in its own order: R, points, ratio; right is the claim's side
    assert [colour for colour, _ in marks] == [
        COLOURS[verdict] for verdict in ("supported", "contradicted", "undecided", "supported")
    ]
    assert [math.copysign(1, x) for _, x in marks] == [1, -1, 1, 1]
    said = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert sum(text == "not run" for text in said) == 14
    assert sum(text == "supported (quick)" for text in said) == 2


def test_the_page_has_remarks_and_equal_bytes(tmp_path: Path) -> None:
    findings, forms = [finding(2, -0.2, -0.3, -0.1)], (".md", ".html", ".tex", ".csv", ".json")
    for name in ("a", "b"):
        claims_page.write(findings, tmp_path / name / "claims", remarks={2: "Because <of> this."})
    for form in (*forms, ".svg", ".png"):
        a, b = ((tmp_path / name / f"claims{form}").read_bytes() for name in ("a", "b"))
        assert a == b, form
    page = (tmp_path / "a/claims.md").read_text(encoding="utf-8")
    assert page.startswith("![")
    assert page.endswith("Claim 2 (A GHN ranks better than a one-shot model): Because <of> this.\n")
    html = (tmp_path / "a/claims.html").read_text(encoding="utf-8")
    assert "Because &lt;of&gt; this." in html
    assert html.count("</html>") == 1


def test_the_figure_says_what_lies_beyond_its_edge() -> None:
    drawn = forest([finding(6, 1e7, 5e6, 2e7), finding(15, 0.2, 0.1, 0.3)])
    axes = drawn.axes[2]
    edge = axes.get_xlim()[1]
    marks = {
        (line.get_marker(), line.get_ydata()[0]): float(line.get_xdata()[0])
        for line in axes.get_lines()
        if line.get_marker() != "None"
    }
    # rows: 6, 7 (not run), 15, 18 (not run); 10,000 times as much as claimed is beyond a hundred
    assert marks[">", 0] == 2 < edge
    assert marks["o", 2] == pytest.approx(math.log10(5))
    # the paper's own: 1125 of 1,000, 0.62, 0.105 and none at all
    own = [marks["D", y] for y in range(3)]
    assert own == pytest.approx([math.log10(x) for x in (1.125, 1 / 0.62, 1 / 0.105)])
    assert marks[">", 3] == 2
    ticks = dict(
        zip(axes.get_xticks(), (t.get_text() for t in axes.get_xticklabels()), strict=True)
    )
    assert ticks[math.log10(5)] == ticks[-math.log10(5)] == "5×"


def test_nothing_in_the_figure_overlaps_or_is_cut() -> None:
    findings = [finding(n, 0.1, 0.05, 0.2, by=by) for n in claims() for by in ("", "again")]
    drawn = forest(findings)
    drawn.draw_without_rendering()
    texts = [text for axes in drawn.axes for text in (*axes.texts, axes.xaxis.label)]
    boxes = [artist.get_window_extent() for artist in (*texts, drawn.legends[0])]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= drawn.bbox.width and box.y1 <= drawn.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:i])
