"""Figure 3 (section 5.2): accuracy against multiply-adds of the best network and its baselines."""

import re
from collections.abc import Mapping

from matplotlib.figure import Figure

from ghn_pipeline.report.figure import blank, ruled, titled
from ghn_pipeline.report.paper.curves import METHODS, MILLION, Curve

#: Colour, dash and marker of each method, distinct for the colour-blind and without colour.
STYLES = {
    "ghn": ("#d55e00", "-", "o"),
    "msdnet": ("#0072b2", "--", "s"),
    "resnet_mc": ("#009e73", "-.", "^"),
    "densenet_mc": ("#cc79a7", ":", "D"),
    "resnet_ensemble": ("#e69f00", (0, (5, 1, 1, 1, 1, 1)), "v"),
    "densenet_ensemble": ("#56b4e9", (0, (1, 3)), "P"),
}


def figure3(curves: Mapping[str, Curve], *, until: float, scale_note: str) -> Figure:
    """Return accuracy in percent against the multiply-adds up to each exit, a line per method.

    Args:
        curves: the curves by the keys of `METHODS`, drawn in that order.
        until: the most multiply-adds that are shown.
        scale_note: the scale in words, for the title; '' at the paper's own scale.

    Raises:
        ValueError: a method is not one of `METHODS`.
    """
    if unknown := curves.keys() - METHODS.keys():
        raise ValueError(f"methods without a name: {sorted(unknown)}")
    figure = blank(7, 5.5)
    axes = figure.add_subplot()
    for key in (key for key in METHODS if key in curves):
        curve, (colour, dash, marker) = curves[key], STYLES[key]
        x = [spent / MILLION for spent in curve.spent]
        y = [100 * accuracy for accuracy in curve.accuracies]
        (line,) = axes.plot(x, y, color=colour, linestyle=dash, marker=marker)
        line.set(label=_raised(METHODS[key]), linewidth=2.8 if key == "ghn" else 1.8)
        line.set(markersize=7, markeredgewidth=0, zorder=3 if key == "ghn" else 2)
    lines = [
        "Figure 3: anytime prediction, the best network found and its rivals",
        "each trained once, with one seed",
        *["of what takes more multiply-adds, the beginning"]
        * any(curve.spent[-1] > until for curve in curves.values()),
    ]
    axes.set_title(titled(lines, scale_note), fontsize=11)
    axes.set_xlim(right=min(axes.get_xlim()[1], until / MILLION))
    axes.set_xlabel("multiply-adds up to the exit (millions)", fontsize=12)
    axes.set_ylabel("test accuracy (%)", fontsize=12)
    ruled(axes)
    # below the axes, because no corner is always free of lines; long enough to show the dashes
    figure.legend(loc="outside lower center", ncols=2, fontsize=11, handlelength=4)
    return figure


def _raised(name: str) -> str:
    """Return 'ResNet^MC' as mathematical text with a superscript."""
    return re.sub(r"\^(\w+)", r"$^{\\mathrm{\1}}$", name)
