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
GENERATED = TRAINED / 2


def draw(scale_note: str = "quick preset (16 by 16 images)") -> Figure:
    estimate = Estimate(0.68, 0.55, 0.78)
    return figure6(GENERATED, TRAINED, scale_note=scale_note, correlation=estimate)


def test_every_architecture_is_drawn_once_in_percent_and_the_better_half_apart():
    (axes,) = draw().axes
    better, other = (np.asarray(points.get_offsets()) for points in axes.collections)
    assert (len(better), len(other)) == (13, 12)
    assert better[:, 1].min() >= other[:, 1].max()
    drawn = np.sort(np.concatenate([better, other]), axis=0)
    assert drawn[:, 0] == pytest.approx(100 * np.sort(GENERATED))
    assert drawn[:, 1] == pytest.approx(100 * np.sort(TRAINED))


def test_labels_legend_and_title():
    figure = draw()
    (axes,) = figure.axes
    assert "generated weights (%)" in axes.get_xlabel()
    assert "training with SGD (%)" in axes.get_ylabel()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["better half after training (13)", "other half (12)"]
    for part in ("25 randomly sampled", "R 0.68 [0.55, 0.78]", "quick preset", "not the paper's"):
        assert part in axes.get_title()
    assert "not the paper's" not in draw(scale_note="").axes[0].get_title()


def test_a_long_note_stays_inside_the_figure():
    figure = draw("quick preset (" + ", ".join(["16 by 16 images", "6 blocks"] * 6) + ")")
    figure.draw_without_rendering()
    box = figure.axes[0].title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_undefined_correlation_is_said():
    nothing = Estimate(np.nan, np.nan, np.nan)
    figure = figure6(GENERATED, TRAINED, scale_note="", correlation=nothing)
    assert "R undefined" in figure.axes[0].get_title()


def test_save_writes_the_same_bytes_each_time(tmp_path: Path):
    for folder in ("a", "b"):
        save(draw(), tmp_path / folder / "figure6.quick")
    for name in ("figure6.quick.png", "figure6.quick.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    png = (tmp_path / "a/figure6.quick.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (1050, 825)  # 7 by 5.5 inches at 150
    assert "<dc:date>" not in (tmp_path / "a/figure6.quick.svg").read_text(encoding="utf-8")


def test_save_says_where_it_could_not(tmp_path: Path):
    (tmp_path / "figure6.svg").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        save(draw(), tmp_path / "figure6")
