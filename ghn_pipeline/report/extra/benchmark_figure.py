"""The figure of a benchmark: the rankings of all methods, and the learning curves of GHNs."""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghn_pipeline.ranking.methods import Method
from ghn_pipeline.report.correlations import GHN
from ghn_pipeline.report.extra.benchmark_table import (
    ENSEMBLE,
    Found,
    label,
    published,
    title,
)
from ghn_pipeline.report.figure import blank, ruled
from ghn_pipeline.spaces.published import PublishedAccuracies

#: Colours that the colour-blind can distinguish; that of the GHNs stands out.
OURS, OTHERS, PUBLISHED = "#d55e00", "#0072b2", "#333333"

Curve = Sequence[tuple[int, float]]


def benchmark_figure(
    methods: Mapping[str, Method],
    found: Mapping[str, Found],
    curves: Mapping[str, Curve],
    of: PublishedAccuracies,
    *,
    scale_note: str,
    cells: int,
    confidence: float,
) -> Figure:
    """Return Spearman's coefficient of each method (left) and of GHNs during training (right).

    Args:
        methods: the measured methods, for their names.
        found: their rankings, see `benchmark_table.measure`; undefined ones have no point.
        curves: for each seed of the GHN, (training step, coefficient over the selection); without
            points there is no right panel.
        of: the published accuracies.
        scale_note: the scale in words, for the title.
        cells: number of cells in the left panel.
        confidence: confidence level of its intervals.
    """
    learnt = [curve for curve in curves.values() if curve]
    rows = len({*published(of.title), *found})
    figure = blank(11 if learnt else 7, max(4.8, 1.4 + 0.22 * rows))
    left, *right = figure.subplots(
        1, 2 if learnt else 1, squeeze=False, width_ratios=[1.3, 1] if learnt else None
    )[0]
    note = f"{title(of)} — {scale_note}"
    figure.suptitle(fill(note, width=110 if learnt else 70), fontsize=12)
    left.set_title(f"Each method, on {cells:,} held-out cells", fontsize=11)
    left.set_xlabel(
        f"Spearman with published accuracy (line: {confidence:.0%} interval)", fontsize=11
    )
    _draw_methods(left, methods, found, of)
    for axes in right:
        axes.set_title(f"In training, on {of.selection}", fontsize=11)
        axes.set_xlabel("training step", fontsize=11)
        axes.set_ylabel("Spearman of likelihood with published accuracy", fontsize=11)
        _draw_curves(axes, learnt)
    for axes in (left, *right):
        ruled(axes, labels=10)
    # below the axes, because no corner is always free of points
    figure.legend(loc="outside lower center", ncols=5, fontsize=10)
    return figure


def _draw_methods(
    axes: Axes, methods: Mapping[str, Method], found: Mapping[str, Found], of: PublishedAccuracies
) -> None:
    others = published(of.title)
    ours = {key: one.correlations["all"]["spearman"] for key, one in found.items()}
    values = {**others, **{key: estimate.value for key, estimate in ours.items()}}
    # the best method on top, undefined ones at the bottom
    keys = sorted(values, key=lambda key: np.nan_to_num(values[key], nan=-np.inf))
    row = {key: y for y, key in enumerate(keys)}
    axes.set_yticks(range(len(keys)), [label(key, methods) for key in keys])
    axes.set_ylim(-0.6, len(keys) - 0.4)
    ghns = [key for key in keys if key in ours and key.partition("/")[0] in (GHN, ENSEMBLE)]
    for group, colour, size, name in (
        (ghns, OURS, 75, "GHN"),
        ([key for key in keys if key in ours and key not in ghns], OTHERS, 45, "other methods"),
    ):
        y, those = [row[key] for key in group], [ours[key] for key in group]
        axes.hlines(y, [e.low for e in those], [e.high for e in those], colors=colour, linewidth=2)
        axes.scatter([e.value for e in those], y, s=size, c=colour, zorder=3, label=name)
    if others:
        x, y = list(others.values()), [row[key] for key in others]
        published_label = f"as published, on all {of.count:,} cells"
        diamonds = axes.scatter(x, y, s=45, marker="D", zorder=4, label=published_label)
        diamonds.set(facecolor="none", edgecolor=PUBLISHED, linewidth=1.3)
    for key, estimate in ours.items():
        shown = "undefined" if math.isnan(estimate.value) else f"{estimate.value:.2f}"
        beside = axes.get_yaxis_transform()
        text = axes.text(
            1.015, row[key], shown, transform=beside, va="center_baseline", fontsize=10
        )
        if key in ghns:
            for bold in (text, axes.get_yticklabels()[row[key]]):
                bold.set(color=OURS, fontweight="bold")


def _draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    if len(curves) > 1:
        for i, curve in enumerate(curves):
            (line,) = axes.plot(*zip(*curve, strict=True), color=OURS, linewidth=1, alpha=0.5)
            line.set_label("_" if i else "GHN, one seed")
    at = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(one) for one in at)))
    mean = [np.mean([one[step] for one in at]) for step in steps]
    name = f"GHN, mean of {len(curves)} seeds" if len(curves) > 1 else "GHN, one seed"
    axes.plot(steps, mean, "o-", color=OURS, linewidth=2.8, label=name)
