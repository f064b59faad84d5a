"""The figure of section 7.1: the memory of a GHN and of a one-shot model against K and N."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ghn_pipeline.report.figure import blank, ruled, titled

#: The name and line of each model; the candidate, the part common to both others, is thin.
STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "ghn": ("GHN", {"color": "#d55e00", "marker": "o"}),
    "oneshot": ("one-shot model", {"color": "#0072b2", "marker": "s"}),
    "network": ("largest candidate, trained by itself", {"color": "#444444", "linewidth": 0.8}),
}


def memory_figure(rows: pd.DataFrame, *, batch: int, scale_note: str) -> Figure:
    """Return parameters and peak memory against operations (left) and nodes (right).

    Activations, equal in both models, can hide everything else in the peak, so the last row of
    panels shows the peak less that of the candidate by itself.

    Args:
        rows: the rows of `training.memory.sweep`.
        batch: images in a batch, for the title.
        scale_note: the scale in words, for the title; '' at the paper's own scale.
    """
    measures = {
        "parameters (millions)": rows["parameters"] / 1e6,
        "peak memory (MB)": rows["peak_bytes"] / 1e6,
        "peak less the candidate's (MB)": (rows["peak_bytes"] - _candidates_peak(rows)) / 1e6,
    }
    figure = blank(9, 10)
    panels = figure.subplots(len(measures), 2, sharex="col", sharey="row")
    for (measure, values), (left, right) in zip(measures.items(), panels, strict=True):
        _draw(left, rows, "operations", values)
        _draw(right, rows, "nodes", values)
        left.set_ylabel(measure, fontsize=12)
        # only after both are drawn, because it ends their common scaling
        left.set_ylim(bottom=min(0.0, values.min()))
    for axes, label in zip(panels[-1], _labels(rows), strict=True):
        axes.set_xlabel(label, fontsize=12)
    figure.suptitle(_title(batch, scale_note), fontsize=11)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=11)
    return figure


def _candidates_peak(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return for each row the peak of the candidate at the same point."""
    alone = rows["peak_bytes"].where(rows["model"] == "network")
    return alone.groupby([rows["axis"], rows["operations"], rows["nodes"]]).transform("max")


def _draw(axes: Axes, rows: pd.DataFrame, axis: str, values: "pd.Series[float]") -> None:
    for model, (name, style) in STYLES.items():
        points = (rows["axis"] == axis) & (rows["model"] == model)
        x = rows.loc[points, axis].sort_values()
        axes.plot(x, values[x.index], label=name, **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    ruled(axes)


def _labels(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the labels of both axes, each with the number that is constant along it."""
    N = rows.loc[rows["axis"] == "operations", "nodes"].iloc[0]
    K = rows.loc[rows["axis"] == "nodes", "operations"].iloc[0]
    return f"operations K, in blocks of N={N} nodes", f"nodes N of a block, with K={K} operations"


def _title(batch: int, scale_note: str) -> str:
    lines = [
        "Section 7.1: what it takes to train a GHN and a one-shot model",
        f"measured: all parameters; the peak of all tensors, in batches of {batch} images",
    ]
    return titled(lines, scale_note, width=100)
