"""Figure 5 draws every defined coefficient with its interval, and its tables hold them all."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.paper.figure5 import (
    Point,
    Setting,
    figure5a,
    figure5b,
    points5a,
    points5b,
)
from ghn_pipeline.report.paper.numbers import table
from ghn_pipeline.report.table import to_csv

SETTING = Setting(
    scale="quick",
    scale_note="quick preset",
    architectures=24,
    confidence=0.9,
)
PAPER = table("table4")["rows"]["ghn"]
UNDEFINED = Estimate(np.nan, np.nan, np.nan)
HELD = {"passes": 1, "scheme": "forward-backward", "setting": SETTING}
PAPER_RANDOM, PAPER_TOP = "Pearson R: paper, Random-100", "Pearson R: paper, Top-50"
OURS, OUR_TOP = "Pearson R: Random-24 [90% interval]", "Pearson R: Top-12 [90% interval]"


BY_LIKELIHOOD = Estimate(0.8, 0.75, 0.85)


def found(over_all: Estimate, better_half: Estimate) -> Point:
    """The correlations by accuracy, and others by likelihood."""
    other = {"spearman": Estimate(0.1, 0, 0.2), "kendall": Estimate(0.1, 0, 0.2)}
    return {
        "accuracy": {
            "all": {"pearson": over_all, **other},
            "better_half": {"pearson": better_half, **other},
        },
        "likelihood": {
            half: {"pearson": BY_LIKELIHOOD, **other} for half in ("all", "better_half")
        },
    }


A = {
    # bars are the interval, even if it does not hold the coefficient
    7: found(Estimate(0.6, 0.4, 0.7), Estimate(0.3, -0.1, 0.6)),
    3: found(Estimate(0.7, 0.3, 0.6), Estimate(0.5, 0.2, 0.8)),
    11: found(Estimate(0.2, 0.0, 0.3), UNDEFINED),
}
B = {
    (scheme, passes): found(
        Estimate(0.1 * passes + more, 0.1 * passes, 0.9),
        Estimate(0.1 * passes - more, -0.5, 0.5),
    )
    for scheme, more in (("synchronous", 0.05), ("forward-backward", 0.15))
    for passes in (5, 1)
}


def lines(figure: Figure, panel: int = 0) -> dict[str, Line2D]:
    drawn = figure.axes[panel].get_lines()
    return {str(line.get_label()): line for line in drawn if str(line.get_label())[0] != "_"}


def bars(figure: Figure) -> list[np.ndarray]:
    """The vertical bars, [bars, 2 ends, (x, y)] of each series."""
    return [np.array(bars.get_segments()) for bars in figure.axes[0].collections]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def values(line: Line2D) -> Sequence[float]:
    return list(np.asarray(line.get_ydata(), dtype=float))


def test_5a_draws_both_halves_in_order_of_n_without_what_is_undefined():
    drawn = lines(figure5a(A, **HELD))
    assert np.round(np.asarray(drawn["Random-24"].get_xdata(), dtype=float)).tolist() == [3, 7, 11]
    assert values(drawn["Random-24"]) == [0.7, 0.6, 0.2]
    assert values(drawn["Top-12"]) == [0.5, 0.3]


def test_each_measure_has_a_panel_and_the_papers_figures_are_by_accuracy():
    for figure in (figure5a(A, **HELD), figure5b(B, nodes=3, setting=SETTING)):
        assert [axes.get_title() for axes in figure.axes] == [
            "ranked by accuracy",
            "ranked by likelihood",
        ]
        ours = {label for label in lines(figure) if not label.startswith("paper")}
        assert lines(figure, 1).keys() == ours
        for label in ours:
            assert set(values(lines(figure, 1)[label])) == {BY_LIKELIHOOD.value}
        assert len(legend(figure)) == len(ours) + 2
    first, second = (axes.get_ylim() for axes in figure.axes)
    assert first == second


def test_a_point_without_an_interval_has_no_bar():
    few = found(Estimate(0.4, np.nan, np.nan), Estimate(0.2, np.nan, np.nan))
    figure = figure5a({3: few, 7: A[7]}, **HELD)
    figure.draw_without_rendering()
    assert values(lines(figure)["Random-24"]) == [0.4, 0.6]
    drawn = [
        [bar[:, 1].tolist() for bar in series.get_segments() if len(bar)]
        for series in figure.axes[0].collections
    ]
    assert [len(series) for series in drawn] == [1, 1]
    assert drawn[0][0] == pytest.approx([0.4, 0.7])


def test_bars_are_the_intervals_and_none_hides_another():
    random, top = bars(figure5a(A, **HELD))
    assert random[:, :, 1] == pytest.approx(np.array([[0.3, 0.6], [0.4, 0.7], [0.0, 0.3]]))
    assert top[:, :, 1] == pytest.approx(np.array([[0.2, 0.8], [-0.1, 0.6]]))
    for figure in (figure5a(A, **HELD), figure5b(B, nodes=3, setting=SETTING)):
        places = [series[0, 0, 0] for series in bars(figure)]
        assert len({round(x, 6) for x in places}) == len(places)


def test_5b_draws_a_line_for_each_scheme_and_half():
    drawn = lines(figure5b(B, nodes=3, setting=SETTING))
    assert values(drawn["forward-backward, Random-24"]) == pytest.approx([0.25, 0.65])
    assert values(drawn["forward-backward, Top-12"]) == pytest.approx([-0.05, 0.35])
    assert values(drawn["synchronous, Random-24"]) == pytest.approx([0.15, 0.55])
    assert values(drawn["synchronous, Top-12"]) == pytest.approx([0.05, 0.45])
    looks = {(line.get_linestyle(), to_hex(line.get_color())) for line in drawn.values()}
    assert len(looks) == 6  # with the paper's two


@pytest.mark.parametrize(
    ("figure", "x"),
    [(figure5a(A, **HELD), 7), (figure5b(B, nodes=3, setting=SETTING), 5)],
    ids=["5a", "5b"],
)
def test_the_papers_point_is_a_hollow_star(figure, x):
    for label, ours, key in (("Random-100", "Random-24", "random"), ("Top-50", "Top-12", "top")):
        star = lines(figure)[f"paper, Table 4, {label}"]
        assert (list(star.get_xdata()), list(star.get_ydata())) == ([x], [PAPER[key]])
        assert (star.get_marker(), star.get_markerfacecolor()) == ("*", "none")
        like = next(line for name, line in lines(figure).items() if name.endswith(ours))
        assert star.get_markeredgecolor() == like.get_color()
    assert "N=7, T=5" in figure.get_suptitle()


def test_all_that_is_written_stays_inside_the_figure_and_apart():
    large = Setting("quick", "quick preset, " * 12, 1000, 0.95)
    figure = figure5b(B, nodes=17, setting=large)
    figure.draw_without_rendering()
    assert len(legend(figure)) == 6
    words = [*figure.texts, *figure.legends, *(axes.title for axes in figure.axes)]
    words += [axes.xaxis.label for axes in figure.axes]
    boxes = [artist.get_window_extent() for artist in words]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_figure_of_nothing_defined_has_the_papers_point_only():
    figure = figure5a({3: found(UNDEFINED, UNDEFINED)}, **HELD)
    figure.draw_without_rendering()
    assert values(lines(figure)["Random-24"]) == []
    assert values(lines(figure)["paper, Table 4, Top-50"]) == [PAPER["top"]]


def test_the_table_of_5a():
    made = points5a(A, **HELD)
    assert made.title.startswith("Figure 5a \N{EM DASH} quick preset, not the paper's scale.")
    assert "T=1, forward-backward" in made.title
    whole = pd.read_csv(io.StringIO(to_csv(made)), dtype=str)
    assert whole["N"].tolist() == ["3", "3", "7", "7", "11", "11"]
    assert whole["Measure"].tolist() == ["accuracy", "likelihood"] * 3
    frame, other = (of.set_index("N") for _, of in whole.groupby("Measure"))
    assert frame[OURS]["3"] == "0.70 [0.30, 0.60]"
    assert frame[OUR_TOP]["11"] == "undefined"
    assert float(frame[PAPER_RANDOM]["7"]) == PAPER["random"]
    assert float(frame[PAPER_TOP]["7"]) == PAPER["top"]
    assert set(frame[PAPER_RANDOM][["3", "11"]]) == {"\N{EN DASH}"}
    assert set(other[OURS]) == {"0.80 [0.75, 0.85]"}
    assert {*other[PAPER_RANDOM], *other[PAPER_TOP]} == {"\N{EN DASH}"}


def test_the_table_of_5b_in_the_papers_order():
    frame = pd.read_csv(io.StringIO(to_csv(points5b(B, nodes=3, setting=SETTING))), dtype=str)
    frame = frame[frame["Measure"] == "accuracy"]
    keys = list(zip(frame["Scheme"], frame["T"], strict=True))
    assert keys == [(s, t) for s in ("forward-backward", "synchronous") for t in ("1", "5")]
    assert frame[PAPER_TOP].tolist() == ["\N{EN DASH}", "0.48", "\N{EN DASH}", "\N{EN DASH}"]


def test_the_papers_point_stands_in_the_tables_where_it_was_not_run():
    last = points5a({3: A[3]}, **HELD).rows[-1]
    assert last[:4] == ("7", "accuracy", "not run", "0.68")
    few = points5b({("synchronous", 1): B["synchronous", 1]}, nodes=3, setting=SETTING)
    assert few.rows[0][:5] == ("forward-backward", "5", "accuracy", "not run", "0.68")


@pytest.mark.parametrize("make", [figure5b, points5b])
def test_an_unknown_scheme_is_refused(make):
    with pytest.raises(ValueError, match="backward"):
        make({("backward", 1): A[3]}, nodes=3, setting=SETTING)
