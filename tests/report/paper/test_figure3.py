"""Figure 3 has a line for each method through its exits, in millions and percent."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ghn_pipeline.report.figure import save
from ghn_pipeline.report.paper.curves import METHODS, Curve, millions
from ghn_pipeline.report.paper.figure3 import STYLES, figure3

RNG = np.random.default_rng(0)


def curve(exits: int) -> Curve:
    spent = np.sort(RNG.integers(10_000, 9_000_000, exits))
    return Curve([int(x) for x in spent], [float(y) for y in RNG.uniform(0.2, 0.9, exits)])


CURVES = {key: curve(5 + i) for i, key in enumerate(reversed(METHODS))}


def draw(
    curves: dict[str, Curve] = CURVES, scale_note: str = "quick preset", until: float = 9e6
) -> Figure:
    return figure3(curves, until=until, scale_note=scale_note)


def test_each_method_is_one_line_through_all_its_exits():
    lines = draw().axes[0].get_lines()
    assert len(lines) == 6
    for line, key in zip(lines, METHODS, strict=True):  # ours first, whatever order they come in
        assert line.get_xdata() == pytest.approx([x / 1e6 for x in CURVES[key].spent])
        assert line.get_ydata() == pytest.approx([100 * y for y in CURVES[key].accuracies])


def test_two_methods_differ_in_colour_and_dash_and_marker(tmp_path: Path):
    for one, other in combinations(METHODS, 2):
        assert all(a != b for a, b in zip(STYLES[one], STYLES[other], strict=True))
    for line, key in zip(draw().axes[0].get_lines(), METHODS, strict=True):
        assert (line.get_color(), line.get_marker()) == STYLES[key][::2]
    save(draw(), tmp_path / "figure3")
    text = (tmp_path / "figure3.svg").read_text(encoding="utf-8")
    # five are dashed; ours, a little thicker, is solid
    assert len(set(re.findall("stroke-dasharray: [0-9., ]+", text))) == 5


def test_labels_legend_and_title():
    figure = draw({key: CURVES[key] for key in ("msdnet", "densenet_mc", "ghn")})
    (axes,) = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["GHN Anytime (ours)", "MSDNet", r"DenseNet$^{\mathrm{MC}}$"]
    assert "(millions)" in axes.get_xlabel()
    assert axes.get_ylabel() == "test accuracy (%)"
    for part in ("Figure 3", "quick preset", "not the paper's scale"):
        assert part in axes.get_title()
    assert "not the paper's" not in draw(scale_note="").axes[0].get_title()


def test_lines_are_cut_where_asked_and_the_title_says_so():
    (whole,), (cut,) = draw().axes, draw(until=5e6).axes
    assert whole.get_xlim()[1] >= max(curve.spent[-1] for curve in CURVES.values()) / 1e6
    assert cut.get_xlim()[1] == 5
    assert "the beginning" in cut.get_title() and "the beginning" not in whole.get_title()


def test_a_long_note_and_the_legend_stay_inside_the_figure():
    figure = draw(scale_note="quick preset (" + ", ".join(["16 by 16 images"] * 12) + ")")
    figure.draw_without_rendering()
    for box in (figure.axes[0].title.get_window_extent(), figure.legends[0].get_window_extent()):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_the_same_curves_give_the_same_files(tmp_path: Path):
    for folder in ("a", "b"):
        save(draw(), tmp_path / folder / "figure3")
    for name in ("figure3.png", "figure3.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_method_without_a_name_is_refused():
    with pytest.raises(ValueError, match="magic"):
        draw({"magic": CURVES["ghn"]})


@pytest.mark.parametrize(
    ("spent", "accuracies", "message"),
    [
        ([], [], "0 accuracies of 0 exits"),
        ([1, 2], [0.5], "1 accuracies of 2 exits"),
        ([2, 1], [0.5, 0.6], "not less"),
        ([1, 2], [0.5, 60.0], "fractions"),
        ([1, 2], [0.5, float("nan")], "fractions"),
    ],
)
def test_what_is_no_curve_is_refused(spent: list[int], accuracies: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        Curve(spent, accuracies)


def test_millions_have_three_significant_digits():
    counts = (123, 12_345, 999_600, 1_000_000, 45_678_901, 2_345_678_901)
    shown = ["0.000123", "0.0123", "1.00", "1.00", "45.7", "2350"]
    assert [millions(count) for count in counts] == shown
