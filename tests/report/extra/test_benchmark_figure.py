"""The figure of a benchmark has every method at its place, and every GHN's learning curve."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Text

from ghn_pipeline.data.darts_cells import Table
from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.ranking.methods import Method
from ghn_pipeline.report.extra.benchmark_figure import Curve, benchmark_figure
from ghn_pipeline.report.extra.benchmark_table import Found
from ghn_pipeline.spaces.darts import DartsAccuracies
from ghn_pipeline.spaces.nasbench201 import NasBench201Accuracies
from ghn_pipeline.spaces.published import PublishedAccuracies


def found(value: float, low: float, high: float) -> Found:
    estimates = dict.fromkeys(("pearson", "spearman", "kendall"), Estimate(0.0, 0.0, 0.0))
    over_all = {**estimates, "spearman": Estimate(value, low, high)}
    return Found({"all": over_all, "better_half": estimates}, None, 0.0, np.nan)


# lines are the interval, even if it does not hold the value
FOUND = {
    "snip": found(0.30, 0.31, 0.4),
    "sgd-10": found(0.95, 0.93, 0.97),
    "ghn": found(0.85, 0.8, 0.88),
    "ghn/accuracy": found(0.84, 0.79, 0.87),
    "ghn-ensemble": found(0.9, 0.86, 0.92),
    "parameters": found(np.nan, np.nan, np.nan),
}
METHODS = {
    key: Method([np.empty(0)] * (3 if key in ("ghn", "ghn/accuracy") else 1), None, None)
    for key in FOUND
}
CURVES = {
    "seed-0": [(10, 0.1), (20, 0.5), (30, 0.6)],
    "seed-1": [(10, 0.3), (20, 0.4), (30, 0.7)],
    "seed-2": [(10, 0.2), (20, 0.6)],
}


def draw(
    curves: dict[str, Curve] = CURVES,
    scale_note: str = "16×16 images",
    of: PublishedAccuracies | None = None,
) -> Figure:
    return benchmark_figure(
        METHODS,
        FOUND,
        curves,
        of or NasBench201Accuracies(),
        scale_note=scale_note,
        cells=1000,
        confidence=0.95,
    )


def ticks(figure: Figure) -> list[Text]:
    return figure.axes[0].get_yticklabels()


def rows(figure: Figure) -> dict[str, float]:
    """The height of each method's row."""
    heights = figure.axes[0].get_yticks()
    return {tick.get_text(): y for tick, y in zip(ticks(figure), heights, strict=True)}


def points(figure: Figure, name: str) -> dict[float, float]:
    """The points of a legend entry: x by row."""
    (drawn,) = (c for c in figure.axes[0].collections if c.get_label() == name)
    return {y: x for x, y in np.asarray(drawn.get_offsets()).tolist()}


def test_rows_are_sorted_with_the_best_on_top_and_the_undefined_at_the_bottom():
    row = rows(draw())
    assert sorted(row, key=row.get) == [
        "Parameters",  # undefined
        "snip",  # 0.30 measured, though 0.58 published
        "fisher",  # 0.36, published only, as those of the next lines
        "grasp",
        "grad_norm",
        "jacob_cov",
        "synflow",
        "Vote of synflow, jacob_cov, snip",
        "GHN, by accuracy, mean of 3 seeds",  # 0.84
        "GHN, mean of 3 seeds",  # 0.85
        "GHN, ensemble of the 3",
        "AZ-NAS",  # 0.91
        "SGD 10 steps",  # 0.95
    ]


def test_points_intervals_and_diamonds_stand_in_their_rows():
    figure = draw()
    row = rows(figure)
    mean, ensemble = row["GHN, mean of 3 seeds"], row["GHN, ensemble of the 3"]
    by_accuracy = row["GHN, by accuracy, mean of 3 seeds"]
    assert points(figure, "GHN") == {mean: 0.85, ensemble: 0.9, by_accuracy: 0.84}
    others = points(figure, "other methods")
    assert others.pop(row["snip"]) == 0.3
    assert others.pop(row["SGD 10 steps"]) == 0.95
    assert all(np.isnan(x) for x in others.values())  # of what is undefined
    diamonds = points(figure, "as published, on all 15,625 cells")
    assert (diamonds[row["snip"]], diamonds[row["AZ-NAS"]], len(diamonds)) == (0.58, 0.91, 8)
    segments = {
        line[0][1]: (line[0][0], line[1][0])
        for collection in figure.axes[0].collections
        if hasattr(collection, "get_segments")
        for line in collection.get_segments()
        if len(line)
    }
    assert segments[row["snip"]] == (0.31, 0.4)
    assert segments[mean] == (0.8, 0.88)


def test_without_published_rankings_there_are_only_measured_ones():
    figure = draw(of=DartsAccuracies(Table((), "")))
    assert len(rows(figure)) == len(FOUND)
    assert "DARTS cells, CIFAR-10" in figure.get_suptitle()
    assert "further cells of the table" in figure.axes[1].get_title()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not [text for text in legend if "published" in text]


def test_only_the_ghns_stand_out():
    figure = draw()
    bold = {tick.get_text() for tick in ticks(figure) if tick.get_fontweight() == "bold"}
    assert bold == {name for name in rows(figure) if name.startswith("GHN")}
    colours = {
        c.get_label(): c.get_facecolor()[0]
        for c in figure.axes[0].collections
        if c.get_label() in ("GHN", "other methods")
    }
    assert not same_color(colours["GHN"], colours["other methods"])


def test_values_stand_beside_their_rows():
    figure = draw()
    row = rows(figure)
    beside = {text.get_position()[1]: text.get_text() for text in figure.axes[0].texts}
    assert beside[row["GHN, mean of 3 seeds"]] == "0.85"
    assert beside[row["Parameters"]] == "undefined"
    assert row["AZ-NAS"] not in beside


def test_curves_are_each_seed_thin_and_their_mean_thick():
    _, axes = draw().axes
    *seeds, mean = axes.get_lines()
    for line, curve in zip(seeds, CURVES.values(), strict=True):
        assert list(zip(*line.get_data(), strict=True)) == curve
        assert line.get_linewidth() < mean.get_linewidth() / 2
    # the last step has not been measured of all
    assert mean.get_xdata() == pytest.approx([10, 20])
    assert mean.get_ydata() == pytest.approx([0.2, 0.5])
    assert "rarer functions" in axes.get_title()
    assert "training step" in axes.get_xlabel()


def test_one_seed_is_its_own_curve():
    figure = draw({"seed-0": CURVES["seed-0"]})
    (line,) = figure.axes[1].get_lines()
    assert list(zip(*line.get_data(), strict=True)) == CURVES["seed-0"]
    assert "GHN, one seed" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("curves", [{}, {"seed-0": []}])
def test_without_curves_there_is_only_the_left_panel(curves):
    (axes,) = draw(curves).axes
    assert "1,000 held-out cells" in axes.get_title()


def test_many_rows_do_not_overlap():
    many = {f"sgd-{10 * k}": found(0.5 + k / 100, 0.4, 0.6) for k in range(1, 20)}
    methods = dict.fromkeys(many, METHODS["snip"])
    of = NasBench201Accuracies()
    figure = benchmark_figure(methods, many, {}, of, scale_note="", cells=9, confidence=0.95)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ticks(figure)]
    assert len(boxes) == 27
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


@pytest.mark.parametrize("curves", [CURVES, {}])
def test_all_words_stay_inside_and_apart(curves):
    note = "quick preset (" + ", ".join(["16×16 images", "6 blocks"] * 6) + ")"
    figure = draw(curves, note)
    figure.draw_without_rendering()
    legend = figure.legends[0]
    words = [*figure.texts, legend, *(axes.title for axes in figure.axes)]
    words += [axes.xaxis.label for axes in figure.axes]
    boxes = [artist.get_window_extent() for artist in words]
    boxes += [text.get_window_extent() for text in (*ticks(figure), *figure.axes[0].texts)]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:i])
    texts = [text.get_fontsize() for text in (*ticks(figure), *legend.get_texts())]
    assert min(texts) >= 10
