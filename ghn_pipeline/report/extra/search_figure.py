"""The figure of a search's best architecture by the number of evaluations."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from ghn_pipeline.report.figure import blank, ruled, titled

#: Colour and dash of each method, distinct for the colour-blind and in print without colour. The
#: first is solid, so that it shows between the dashes of the next if methods coincide.
STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))


def search_figure(
    curves: Mapping[str, Sequence[np.ndarray]],
    *,
    scale_note: str,
    ranked_by: str = "accuracy",
    unit: str = "%",
) -> Figure:
    """Return the best validation accuracy so far of each seed, thin, and their mean, thick.

    Args:
        curves: for each method, such as 'random', and each seed the best accuracies so far
            [evaluations], as fractions; all of a method are equally long.
        scale_note: the scale in words, for the title; '' at the paper's own scale.
        ranked_by: the measure that ranks, such as 'likelihood'.
        unit: '%' for fractions, or '' for values that are drawn unchanged.
    """
    factor, digits = (100, 2) if unit else (1, 4)
    figure = blank(7, 5)
    axes = figure.add_subplot()
    for (method, seeds), (colour, dash) in zip(curves.items(), cycle(STYLES), strict=False):
        values = factor * np.stack(seeds)
        x, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
        axes.plot(x, values.T, color=colour, linewidth=0.8, alpha=0.45, drawstyle="steps-post")
        of = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
        end = f"{mean[-1]:.{digits}f} {unit}".strip()
        label = f"{method}: {end} at the end ({of})"
        axes.plot(x, mean, dash, color=colour, linewidth=2.8, label=label, drawstyle="steps-post")
    title = f"Search: best {ranked_by} with generated weights so far"
    axes.set_title(titled([title], scale_note), fontsize=11)
    axes.set_xlabel("architectures evaluated", fontsize=12)
    in_unit = f" ({unit})" if unit else ""
    axes.set_ylabel(fill(f"best validation {ranked_by} so far{in_unit}", 45), fontsize=12)
    ruled(axes)
    axes.legend(loc="lower right", fontsize=11)  # rising curves leave room there
    return figure
