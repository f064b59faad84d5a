"""Figure 4 (section 5.2): the anytime search's best networks and random ones, after training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Floats
from ghn_pipeline.report.figure import blank, ruled, titled
from ghn_pipeline.report.paper.curves import GROUPS, MILLION, Curve, budget_range

#: Colour and dash of each group's mean, distinct for the colour-blind and without colour.
STYLES = {"top": ("#d55e00", "-"), "random": ("#0072b2", "--")}
RANGE = "#bbbbbb"


def figure4(
    groups: Mapping[str, Sequence[Curve]], *, budgets: tuple[float, float], scale_note: str
) -> Figure:
    """Return accuracy in percent by budget, for each network (thin) and the means (thick).

    It is the accuracy of the last exit within the budget. Lines end at the farthest exit of all
    networks or at the end of the range of budgets, whichever is farther.

    Args:
        groups: the networks of each group, by the keys of `GROUPS`.
        budgets: the range of the area in multiply-adds, which is shaded.
        scale_note: the scale in words, for the title; '' at the paper's own scale.

    Raises:
        ValueError: a group is not one of `GROUPS`, or has no networks.
    """
    if not groups or not groups.keys() <= GROUPS.keys() or not all(groups.values()):
        counts = {key: len(curves) for key, curves in groups.items()}
        raise ValueError(f"networks are in the groups {', '.join(GROUPS)}: not {counts}")
    end = max(budgets[1], *(curve.spent[-1] for of in groups.values() for curve in of))
    figure = blank(7, 5.5)
    axes = figure.add_subplot()
    for key in (key for key in GROUPS if key in groups):
        _draw(axes, key, groups[key], end)
    low, high = (budget / MILLION for budget in budgets)
    axes.axvspan(low, high, color=RANGE, alpha=0.25, lw=0, label=f"area: {budget_range(budgets)}")
    names = [f"{GROUPS[key]} {len(groups[key])}" for key in GROUPS if key in groups]
    lines = [
        f"Figure 4: anytime prediction, {' and '.join(names)}",
        "thin: each network; thick: the mean, once all have an exit",
    ]
    axes.set_title(titled(lines, scale_note), fontsize=11)
    axes.set_xlabel("multiply-adds (millions)", fontsize=12)
    axes.set_ylabel("test accuracy of the last exit reached (%)", fontsize=12)
    ruled(axes)
    # below the axes, because no corner is always free of lines; long enough to show the dashes
    figure.legend(loc="outside lower center", ncols=2, fontsize=11, handlelength=4)
    return figure


def mean_curve(curves: Sequence[Curve], end: float) -> tuple[Floats, Floats]:
    """Return budgets [n] and the mean accuracy [n] of networks within each.

    The budgets are all points at which the mean changes, from the first exit of the last network to
    reach one, and `end`. The mean is constant between them.
    """
    first = max(curve.spent[0] for curve in curves)
    exits = {spent for curve in curves for spent in curve.spent if spent > first}
    at = np.array(sorted({first, *exits, end}), dtype=np.float64)
    return at, np.mean([curve.within(at) for curve in curves], axis=0)


def _draw(axes: Axes, key: str, curves: Sequence[Curve], end: float) -> None:
    colour, dash = STYLES[key]
    for curve in curves:
        x, y = mean_curve([curve], end)
        (thin,) = axes.plot(x / MILLION, 100 * y, dash, color=colour, drawstyle="steps-post")
        thin.set(linewidth=0.8, alpha=0.5)
    x, y = mean_curve(curves, end)
    (thick,) = axes.plot(x / MILLION, 100 * y, dash, color=colour, drawstyle="steps-post")
    thick.set(linewidth=2.8, label=f"{GROUPS[key]} {len(curves)}")
