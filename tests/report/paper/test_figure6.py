"""Figure 6 shows every architecture once, in percent, and is the same file every time."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.figure import save
from ghn_pipeline.report.paper.figure6 import figure6
from ghn_pipeline.system.errors import UserError

TRAINED = np.random.default_rng(0).uniform(0.5, 0.8, 25)
GENERATED = {"accuracy": TRAINED / 2, "likelihood": TRAINED**2}
FOUND = {"accuracy": Estimate(0.68, 0.55, 0.78), "likelihood": Estimate(0.8, np.nan, np.nan)}


def draw(
    scale_note: str = "quick preset (16 by 16 images)",
    found: dict[str, Estimate] = FOUND,
    measures: tuple[str, ...] = ("accuracy", "likelihood"),
) -> Figure:
    generated = {by: GENERATED[by] for by in measures}
    return figure6(generated, TRAINED, scale_note=scale_note, correlations=found)


@pytest.mark.parametrize("panel", [0, 1])
def test_every_architecture_is_drawn_once_in_percent_and_the_better_half_apart(panel):
    axes, by = draw().axes[panel], list(GENERATED)[panel]
    better, other = (np.asarray(points.get_offsets()) for points in axes.collections)
    assert (len(better), len(other)) == (13, 12)
    assert better[:, 1].min() >= other[:, 1].max()
    drawn = np.sort(np.concatenate([better, other]), axis=0)
    assert drawn[:, 0] == pytest.approx(100 * np.sort(GENERATED[by]))
    assert drawn[:, 1] == pytest.approx(100 * np.sort(TRAINED))


def test_labels_legend_and_title():
    figure = draw()
    left, right = figure.axes
    assert left.get_xlabel() == "accuracy with generated weights (%)"
    assert right.get_xlabel() == "likelihood with generated weights (%)"
    assert "training with SGD (%)" in left.get_ylabel()
    assert left.get_ylim() == right.get_ylim()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["better half after training (13)", "other half (12)"]
    assert left.get_title() == "Pearson R 0.68 [0.55, 0.78]"
    assert right.get_title() == "Pearson R 0.80 [too few]"
    for part in ("25 randomly sampled", "quick preset", "not the paper's"):
        assert part in figure.get_suptitle()
    assert "not the paper's" not in draw(scale_note="").get_suptitle()


@pytest.mark.parametrize("measures", [("accuracy",), ("accuracy", "likelihood")])
def test_all_words_stay_inside_the_figure_and_apart(measures):
    note = "quick preset (" + ", ".join(["16 by 16 images", "6 blocks"] * 6) + ")"
    figure = draw(note, measures=measures)
    figure.draw_without_rendering()
    words = [*figure.texts, *figure.legends, *(axes.title for axes in figure.axes)]
    words += [axes.xaxis.label for axes in figure.axes]
    boxes = [artist.get_window_extent() for artist in words]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_undefined_correlation_is_said():
    nothing = Estimate(np.nan, np.nan, np.nan)
    figure = draw("", {**FOUND, "likelihood": nothing})
    assert figure.axes[1].get_title() == "Pearson R undefined"


def test_save_writes_the_same_bytes_each_time(tmp_path: Path):
    for folder in ("a", "b"):
        save(draw(), tmp_path / folder / "figure6.quick")
    for name in ("figure6.quick.png", "figure6.quick.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    png = (tmp_path / "a/figure6.quick.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (1800, 780)  # 12 by 5.2 inches at 150
    assert "<dc:date>" not in (tmp_path / "a/figure6.quick.svg").read_text(encoding="utf-8")


def test_save_says_where_it_could_not(tmp_path: Path):
    (tmp_path / "figure6.svg").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        save(draw(), tmp_path / "figure6")
