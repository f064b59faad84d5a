"""Figure 4: what every network reaches, the groups' means by a slow loop, the range."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghn_pipeline.report.paper.curves import Curve
from ghn_pipeline.report.paper.figure4 import figure4, mean_curve
from ghn_pipeline.training.batches import area

RNG = np.random.default_rng(0)
BUDGETS = (1e6, 8e6)


def curve(exits: int) -> Curve:
    """Exits in no order of accuracy, so that a later one is not always better."""
    spent = np.sort(RNG.integers(200_000, 9_000_000, exits))
    return Curve([int(x) for x in spent], [float(y) for y in RNG.uniform(0.2, 0.9, exits)])


GROUPS = {"random": [curve(4), curve(6), curve(1)], "top": [curve(5), curve(10)]}


def draw(groups: dict[str, list[Curve]] = GROUPS, scale_note: str = "quick preset") -> Figure:
    return figure4(groups, budgets=BUDGETS, scale_note=scale_note)


def last_within(curve: Curve, budget: float) -> float:
    reached = 0.0
    for spent, accuracy in zip(curve.spent, curve.accuracies, strict=True):
        if spent <= budget:
            reached = accuracy
    return reached


def lines(figure: Figure) -> dict[str, tuple[list[Line2D], Line2D]]:
    """Each group's thin lines, and its thick one, which follows them."""
    top, random = len(GROUPS["top"]), len(GROUPS["random"])
    found = figure.axes[0].get_lines()
    assert len(found) == top + random + 2
    return {
        "top": (found[:top], found[top]),
        "random": (found[top + 1 : -1], found[-1]),
    }


def stands(line: Line2D) -> Callable[[float], float]:
    """The height of a line of steps at a budget within it, by a loop."""
    assert line.get_drawstyle() == "steps-post"

    def at(budget: float) -> float:
        height = np.nan
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            if x <= budget / 1e6:
                height = y
        return float(height)

    return at


@pytest.mark.parametrize("group", GROUPS)
def test_the_mean_is_that_of_what_every_network_reaches(group: str):
    curves, (_, mean) = GROUPS[group], lines(draw())[group]
    first = max(curve.spent[0] for curve in curves)
    last = max(curve.spent[-1] for of in GROUPS.values() for curve in of)
    assert mean.get_xdata()[[0, -1]] == pytest.approx([first / 1e6, last / 1e6])
    for budget in [*np.linspace(first, last, 300), *(s + 0.5 for c in curves for s in c.spent)]:
        if budget >= first:
            by_hand = sum(last_within(curve, budget) for curve in curves) / len(curves)
            assert stands(mean)(budget) == pytest.approx(100 * by_hand)


@pytest.mark.parametrize("group", GROUPS)
def test_every_network_is_a_thin_line_from_its_first_exit(group: str):
    thin, mean = lines(draw())[group]
    for line, curve in zip(thin, GROUPS[group], strict=True):
        assert line.get_xdata()[0] == pytest.approx(curve.spent[0] / 1e6)
        assert line.get_linewidth() < mean.get_linewidth() / 2
        assert line.get_color() == mean.get_color()
        for budget in np.linspace(curve.spent[0], 8.9e6, 100):
            assert stands(line)(budget) == pytest.approx(100 * last_within(curve, budget))


def test_groups_differ_in_colour_and_dash():
    found = lines(draw())
    one, other = (found[group][1] for group in ("top", "random"))
    assert one.get_color() != other.get_color()
    assert one.get_linestyle() != other.get_linestyle()


def test_what_is_drawn_is_what_the_area_is_over():
    """The area below each thin line within the shaded range, over its width."""
    figure = draw()
    (span,) = figure.axes[0].patches
    low, high = span.get_x(), span.get_x() + span.get_width()
    assert (low, high) == pytest.approx((1, 8))
    for group, (thin, _) in lines(figure).items():
        for line, curve in zip(thin, GROUPS[group], strict=True):
            x = [*line.get_xdata()]
            total = 0.0
            for left, right, y in zip(x, x[1:], line.get_ydata(), strict=False):
                total += y * max(0.0, min(right, high) - max(left, low))
            expected = area(curve.spent, curve.accuracies, *BUDGETS)
            assert total / (high - low) == pytest.approx(100 * expected)


def test_the_lines_go_on_to_the_end_of_the_range():
    curves = [Curve([2_000_000, 3_000_000], [0.5, 0.4]), Curve([1_000_000], [0.3])]
    x, y = mean_curve(curves, 8e6)
    assert x.tolist() == [2e6, 3e6, 8e6]
    assert y == pytest.approx([0.4, 0.35, 0.35])
    drawn = draw({"top": curves}).axes[0].get_lines()
    assert [line.get_xdata()[-1] for line in drawn] == [8, 8, 8]


def test_a_budget_of_just_an_exit_reaches_it():
    curve = Curve([10, 10, 30], [0.2, 0.5, 0.4])
    found = curve.within(np.array([9, 10, 11, 29, 30, 31]))
    assert found.tolist() == [0, 0.5, 0.5, 0.5, 0.4, 0.4]


def test_labels_legend_and_title():
    figure = draw()
    (axes,) = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["GHN Top 2", "Random 3", "area: 1 to 8 million multiply-adds"]
    assert axes.get_xlabel() == "multiply-adds (millions)"
    assert "accuracy of the last exit" in axes.get_ylabel()
    for part in ("Figure 4", "GHN Top 2 and Random 3", "quick preset", "not the paper's scale"):
        assert part in axes.get_title()
    assert "not the paper's" not in draw(scale_note="").axes[0].get_title()


def test_a_long_note_and_the_legend_stay_inside_the_figure():
    figure = draw(scale_note="quick preset (" + ", ".join(["16 by 16 images"] * 12) + ")")
    figure.draw_without_rendering()
    for box in (figure.axes[0].title.get_window_extent(), figure.legends[0].get_window_extent()):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height


@pytest.mark.parametrize("groups", [{}, {"top": []}, {"middle": GROUPS["top"]}])
def test_no_networks_or_another_group_are_refused(groups: dict[str, list[Curve]]):
    with pytest.raises(ValueError, match="in the groups top, random"):
        draw(groups)
