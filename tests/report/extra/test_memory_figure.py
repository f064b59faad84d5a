"""The memory figure shows every row once, in its units, from zero, and says what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ghn_pipeline.report.extra.memory_figure import memory_figure
from ghn_pipeline.report.figure import save

POINTS = [("operations", K, 5) for K in (2, 3, 4)] + [("nodes", 4, N) for N in (3, 5, 8)]
NAMES = {
    "ghn": "GHN",
    "oneshot": "one-shot model",
    "network": "largest candidate, trained by itself",
}


def made_up() -> pd.DataFrame:
    rows = []
    for axis, K, N in POINTS:
        parameters = {"ghn": 900_000 + K, "oneshot": 10_000 * K * N, "network": 10_000 * N}
        for model, count in parameters.items():
            peak = 2_000_000 * N + 12 * count
            rows.append((axis, K, N, model, count, peak))
    columns = ["axis", "operations", "nodes", "model", "parameters", "peak_bytes"]
    # as they come, in whatever order
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


def draw(rows: pd.DataFrame, note: str = "quick preset (16 by 16 images)"):
    return memory_figure(rows, batch=64, scale_note=note)


@pytest.mark.parametrize("column", [0, 1])
def test_every_row_is_drawn_once_in_its_panel_and_unit(column):
    rows, axis = made_up(), ["operations", "nodes"][column]
    panels = draw(rows).axes[column::2]
    for model, name in NAMES.items():
        of_model = rows[(rows["axis"] == axis) & (rows["model"] == model)].sort_values(axis)
        drawn = []
        for panel in panels:
            (line,) = (line for line in panel.lines if line.get_label() == name)
            assert line.get_xdata().tolist() == of_model[axis].tolist()
            drawn.append(line.get_ydata())
        assert drawn[0] == pytest.approx(of_model["parameters"].to_numpy() / 1e6)
        assert drawn[1] == pytest.approx(of_model["peak_bytes"].to_numpy() / 1e6)
        candidate = 2 * of_model["nodes"].to_numpy() + 0.12 * of_model["nodes"].to_numpy()
        assert drawn[2] == pytest.approx(drawn[1] - candidate)


def test_all_lines_are_inside_panels_that_start_at_zero():
    figure = draw(made_up())
    assert len(figure.axes) == 6
    for panel in figure.axes:
        low, high = panel.get_ylim()
        assert low == 0
        assert high >= max(np.max(line.get_ydata()) for line in panel.lines)


def test_labels_legend_and_title_say_what_was_measured():
    figure = draw(made_up())
    assert "K, in blocks of N=5" in figure.axes[-2].get_xlabel()
    assert "with K=4 operations" in figure.axes[-1].get_xlabel()
    assert "millions" in figure.axes[0].get_ylabel()
    assert all("MB" in figure.axes[i].get_ylabel() for i in (2, 4))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(NAMES.values())
    for part in ("GHN and a one-shot model", "batches of 64 images", "quick preset", "not the pap"):
        assert part in figure.get_suptitle()
    assert "not the paper's" not in draw(made_up(), note="").get_suptitle()


def test_a_long_note_stays_inside_the_figure(tmp_path: Path):
    figure = draw(
        made_up(), "quick preset (" + ", ".join(["16 by 16 images", "6 blocks"] * 8) + ")"
    )
    save(figure, tmp_path / "memory")
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.x1 <= figure.get_figwidth()
