"""Figure 6 (section 7.4): accuracies with generated weights and after training."""

import numpy as np
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Estimate, better_half
from ghn_pipeline.report.correlations import show
from ghn_pipeline.report.figure import blank, ruled, titled


def figure6(
    generated: np.ndarray, trained: np.ndarray, *, scale_note: str, correlation: Estimate
) -> Figure:
    """Return a scatter plot of accuracies in percent.

    Args:
        generated: accuracies [n] with weights from the GHN, as fractions.
        trained: accuracies [n] of the same architectures after training with SGD, as fractions.
        scale_note: the scale in words, for the title; '' at the paper's own scale.
        correlation: Pearson's R of both with its interval, for the title.
    """
    better = np.zeros(len(trained), dtype=bool)
    better[better_half(trained)] = True
    figure = blank(7, 5.5)
    axes = figure.add_subplot()
    for half, name, colour, marker in (
        (better, "better half after training", "#d55e00", "o"),
        (~better, "other half", "#0072b2", "s"),
    ):
        label = f"{name} ({half.sum()})"
        x, y = 100 * generated[half], 100 * trained[half]
        axes.scatter(x, y, s=45, c=colour, marker=marker, alpha=0.8, linewidths=0, label=label)
    axes.set_title(_title(len(trained), scale_note, correlation), fontsize=11)
    axes.set_xlabel("accuracy with generated weights (%)", fontsize=12)
    axes.set_ylabel("accuracy after training with SGD (%)", fontsize=12)
    ruled(axes)
    # below the axes, because no corner is always free of points
    figure.legend(loc="outside lower center", ncols=2, fontsize=11)
    return figure


def _title(architectures: int, scale_note: str, correlation: Estimate) -> str:
    lines = [
        f"Figure 6: comparison for {architectures} randomly sampled architectures",
        f"Pearson R {show(correlation)} (bootstrap interval)",
    ]
    return titled(lines, scale_note)
