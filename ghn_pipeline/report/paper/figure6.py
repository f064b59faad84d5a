"""Figure 6 (section 7.4): predictions with generated weights, and accuracies after training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Estimate, Floats, better_half
from ghn_pipeline.report.correlations import show
from ghn_pipeline.report.figure import blank, ruled, titled


def figure6(
    generated: Mapping[str, Floats],
    trained: Floats,
    *,
    scale_note: str,
    correlations: Mapping[str, Estimate],
) -> Figure:
    """Return a scatter plot for each measure, in percent.

    Args:
        generated: by measure, the predictions [n] with weights from the GHN, as fractions.
        trained: accuracies [n] of the same architectures after training with SGD, as fractions.
        scale_note: the scale in words, for the title; '' at the paper's own scale.
        correlations: by measure, Pearson's R of both with its interval.
    """
    figure = blank(6 * len(generated), 5.2)
    panels = figure.subplots(1, len(generated), sharey=True, squeeze=False)[0]
    for axes, (measure, values) in zip(panels, generated.items(), strict=True):
        _draw(axes, values, trained)
        axes.set_title(f"Pearson R {show(correlations[measure])}", fontsize=11)
        axes.set_xlabel(f"{measure} with generated weights (%)", fontsize=12)
        ruled(axes)
    panels[0].set_ylabel("accuracy after training with SGD (%)", fontsize=12)
    line = f"Figure 6: comparison for {len(trained)} randomly sampled architectures"
    figure.suptitle(titled([line], scale_note, width=65 * len(generated)), fontsize=11)
    # below the axes, because no corner is always free of points
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=11)
    return figure


def _draw(axes: Axes, generated: Floats, trained: Floats) -> None:
    better = np.zeros(len(trained), dtype=bool)
    better[better_half(trained)] = True
    for half, name, colour, marker in (
        (better, "better half after training", "#d55e00", "o"),
        (~better, "other half", "#0072b2", "s"),
    ):
        label = f"{name} ({half.sum()})"
        x, y = 100 * generated[half], 100 * trained[half]
        axes.scatter(x, y, s=45, c=colour, marker=marker, alpha=0.8, linewidths=0, label=label)
