"""The figure of searches shows every seed thin and the mean thick, in percent, with its end."""

import numpy as np
import pytest

from ghn_pipeline.report.extra.search_figure import search_figure

RNG = np.random.default_rng(0)
CURVES = {
    method: [np.sort(RNG.uniform(0.2, high, 40)) for _ in range(3)]
    for method, high in (("random", 0.4), ("evolution", 0.5))
}


def lines(figure):
    """The lines of the only axes: each method's seeds, then its mean."""
    (axes,) = figure.axes
    return axes.get_lines()


def test_each_seed_is_a_thin_line_and_their_mean_a_thick_one_in_percent():
    drawn = lines(search_figure(CURVES, scale_note=""))
    assert len(drawn) == 8
    for curves, (*seeds, mean) in zip(CURVES.values(), (drawn[:4], drawn[4:]), strict=True):
        for line, curve in zip(seeds, curves, strict=True):
            assert line.get_ydata() == pytest.approx([100 * y for y in curve])
            assert line.get_linewidth() < mean.get_linewidth() / 2
        by_hand = [sum(100 * c[i] for c in curves) / 3 for i in range(40)]
        assert mean.get_ydata() == pytest.approx(by_hand)
        assert mean.get_xdata() == pytest.approx(range(1, 41))
        assert {line.get_color() for line in seeds} == {mean.get_color()}
    # told apart by more than colour
    assert drawn[3].get_linestyle() != drawn[7].get_linestyle()


def test_legend_has_the_mean_at_the_end():
    for curves, seeds in ((CURVES, "mean of 3 seeds"), ({"random": [[0.1, 0.4]]}, "one seed")):
        figure = search_figure(curves, scale_note="")
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ends = [100 * sum(c[-1] for c in of) / len(of) for of in curves.values()]
        assert texts == [
            f"{method}: {end:.2f} % at the end ({seeds})"
            for method, end in zip(curves, ends, strict=True)
        ]


def test_what_is_no_fraction_is_drawn_as_it_is():
    words = "likelihood × (synflow of the same weights)^0.0013"
    figure = search_figure(CURVES, scale_note="", ranked_by=words, unit="")
    (axes,) = figure.axes
    assert axes.get_lines()[0].get_ydata() == pytest.approx(CURVES["random"][0])
    assert "%" not in axes.get_ylabel()
    end = np.mean([curve[-1] for curve in CURVES["random"]])
    text = axes.get_legend().get_texts()[0].get_text()
    assert text == f"random: {end:.4f} at the end (mean of 3 seeds)"
    figure.draw_without_rendering()
    box = axes.yaxis.label.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height


def test_labels_and_a_long_note_that_stays_inside_the_figure():
    note = "quick preset (" + ", ".join(["16 by 16 images", "6 blocks"] * 6) + ")"
    figure = search_figure(CURVES, scale_note=note)
    (axes,) = figure.axes
    assert "evaluated" in axes.get_xlabel()
    assert "validation accuracy" in axes.get_ylabel()
    assert "(%)" in axes.get_ylabel()
    assert "quick preset" in axes.get_title()
    assert "not the paper's" in axes.get_title()
    assert "not the paper's" not in search_figure(CURVES, scale_note="").axes[0].get_title()
    (axes_of_likelihood,) = search_figure(CURVES, scale_note="", ranked_by="likelihood").axes
    assert "likelihood" in axes_of_likelihood.get_ylabel()
    assert "likelihood" in axes_of_likelihood.get_title()
    assert "accuracy" not in axes_of_likelihood.get_ylabel() + axes_of_likelihood.get_title()
    figure.draw_without_rendering()
    box = axes.title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_curves_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        search_figure({"random": [np.ones(3), np.ones(4)]}, scale_note="")
