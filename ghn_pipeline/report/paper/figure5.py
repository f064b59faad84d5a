"""Figure 5 (section 5.4): correlation by the nodes of the training graphs (a), and by the steps
and the scheme of propagation (b), each as a figure and as a table of its points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.correlations import (
    Bootstrap,
    Correlations,
    bootstrap_note,
    cells,
    columns,
    names,
    paper_note,
    title,
)
from ghn_pipeline.report.figure import blank, ruled, titled
from ghn_pipeline.report.paper import numbers
from ghn_pipeline.report.table import Table

COLOURS = {"all": "#0072b2", "better_half": "#d55e00"}
STYLES = {"forward-backward": ("-", "os"), "synchronous": ("--", "^D")}  # line, markers
SCHEMES = list(STYLES)


def _paper(key: str) -> int:
    """Return "nodes" (N) or "passes" (T) of Table 4's GHN; Figure 5 itself prints no numbers."""
    found: int = numbers.table("table4")["ghn"][key]
    return found


@dataclass(frozen=True)
class Setting:
    """The settings that the points of a figure share.

    Attributes:
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words.
        architectures: number of architectures in the correlations.
        bootstrap: settings of the intervals.
    """

    scale: str
    scale_note: str
    architectures: int
    bootstrap: Bootstrap


@dataclass(frozen=True)
class _Series:
    label: str
    over: str  # 'all' or 'better_half'
    line: str
    marker: str
    points: Mapping[int, Estimate]


def figure5a(
    points: Mapping[int, Correlations], *, passes: int, scheme: str, setting: Setting
) -> Figure:
    """Return Pearson's R, with intervals, against the nodes of the training graphs.

    Args:
        points: the correlations by N, the nodes in training, see `correlations.measure`; undefined
            ones are left out.
        passes, scheme: settings of the propagation, the same for all points.
        setting: the other settings that the points share.
    """
    figure, axes = _blank(f"Figure 5a: nodes in training (T={passes}, {scheme})", setting)
    axes.set_xlabel("nodes in training, N", fontsize=12)
    halves, styles = names(setting.architectures), zip(COLOURS, "os", strict=True)
    series = [
        _Series(halves[over], over, "-", marker, _pearson(points, over)) for over, marker in styles
    ]
    return _draw(figure, axes, series, _paper("nodes"))


def figure5b(
    points: Mapping[tuple[str, int], Correlations], *, nodes: int, setting: Setting
) -> Figure:
    """Return Pearson's R, with intervals, against the steps of propagation, a line per scheme.

    Args:
        points: the correlations by (scheme, T), see `correlations.measure`; undefined ones are left
            out.
        nodes: N in training, the same for all points.
        setting: the other settings that the points share.

    Raises:
        ValueError: a scheme is neither 'forward-backward' nor 'synchronous'.
    """
    figure, axes = _blank(f"Figure 5b: propagation schemes (N={nodes})", setting)
    axes.set_xlabel("propagation steps, T", fontsize=12)
    halves, series = names(setting.architectures), []
    for scheme in sorted({scheme for scheme, _ in points}, key=SCHEMES.index):
        line, markers = STYLES[scheme]
        chosen = {passes: found for (of, passes), found in points.items() if of == scheme}
        series += [
            _Series(f"{scheme}, {halves[over]}", over, line, marker, _pearson(chosen, over))
            for over, marker in zip(COLOURS, markers, strict=True)
        ]
    return _draw(figure, axes, series, _paper("passes"))


def points5a(
    points: Mapping[int, Correlations], *, passes: int, scheme: str, setting: Setting
) -> Table:
    """Return the points of `figure5a`, which has the same arguments, as a table."""
    paper = {_paper("nodes"): numbers.table("table4")["rows"]["ghn"]}
    rows = tuple(
        (str(nodes), *cells(points.get(nodes), paper.get(nodes)))
        for nodes in sorted({*points, *paper})
    )
    caption = f"Correlation by the nodes in training (N), with T={passes}, {scheme}"
    return _table("Figure 5a", caption, (("", "N"),), rows, setting)


def points5b(
    points: Mapping[tuple[str, int], Correlations], *, nodes: int, setting: Setting
) -> Table:
    """Return the points of `figure5b`, which has the same arguments, as a table.

    Raises:
        ValueError: a scheme is neither 'forward-backward' nor 'synchronous'.
    """
    paper = {(SCHEMES[0], _paper("passes")): numbers.table("table4")["rows"]["ghn"]}
    rows = tuple(
        (key[0], str(key[1]), *cells(points.get(key), paper.get(key)))
        for key in sorted({*points, *paper}, key=lambda key: (SCHEMES.index(key[0]), key[1]))
    )
    caption = f"Correlation by the scheme and the steps (T) of propagation, with N={nodes}"
    return _table("Figure 5b", caption, (("", "Scheme"), ("", "T")), rows, setting)


def _pearson(points: Mapping[int, Correlations], over: str) -> dict[int, Estimate]:
    found = {x: points[x][over]["pearson"] for x in sorted(points)}
    return {x: estimate for x, estimate in found.items() if not math.isnan(estimate.value)}


def _blank(heading: str, setting: Setting) -> tuple[Figure, Axes]:
    """Return a figure with all parts that do not depend on the points."""
    figure = blank(8, 5.5)
    axes = figure.add_subplot()
    small = "" if setting.scale == "paper" else setting.scale_note
    marks = (
        f"bars: {setting.bootstrap.confidence:.0%} bootstrap interval; "
        f"stars: the paper's N={_paper('nodes')}, T={_paper('passes')}"
    )
    axes.set_title(titled([heading, marks], small), fontsize=11)
    axes.set_ylabel("Pearson R", fontsize=12)
    ruled(axes)
    return figure, axes


def _draw(figure: Figure, axes: Axes, series: Sequence[_Series], paper_x: int) -> Figure:
    ticks = sorted({paper_x, *(x for one in series for x in one.points)})
    axes.set_xticks(ticks)
    step = 0.012 * (ticks[-1] - ticks[0] or 1)  # bars side by side, so that none hides another
    for i, one in enumerate(series):
        _draw_series(axes, one, step * (i - (len(series) - 1) / 2))
    _draw_paper(axes, paper_x)
    # a column for each scheme, and one for the paper
    figure.legend(loc="outside lower center", ncols=len(series) // 2 + 1, fontsize=9)
    return figure


def _draw_series(axes: Axes, series: _Series, shift: float) -> None:
    x = np.array(list(series.points)) + shift
    found, colour = list(series.points.values()), COLOURS[series.over]
    (line,) = axes.plot(x, [e.value for e in found], color=colour, alpha=0.8)
    line.set(linestyle=series.line, marker=series.marker, label=series.label)
    low, high = (np.array([getattr(e, end) for e in found]) for end in ("low", "high"))
    # bars are around the middle, because a percentile interval need not contain the coefficient
    middle, half = (low + high) / 2, (high - low) / 2
    axes.errorbar(x, middle, yerr=half, fmt="none", ecolor=colour, capsize=3, alpha=0.8)


def _draw_paper(axes: Axes, x: int) -> None:
    paper = numbers.table("table4")
    called = {"random": f"Random-{paper['architectures']}", "top": f"Top-{paper['better_half']}"}
    for key, colour in zip(called, COLOURS.values(), strict=True):
        (star,) = axes.plot(x, paper["rows"]["ghn"][key], "*", color=colour, zorder=4)
        star.set(markersize=15, markerfacecolor="none", markeredgewidth=1.5)
        star.set_label(f"paper, Table 4, {called[key]}")


def _table(
    name: str,
    caption: str,
    first: tuple[tuple[str, str], ...],
    rows: tuple[tuple[str, ...], ...],
    setting: Setting,
) -> Table:
    paper = numbers.table("table4")
    source = (
        f"{paper['place']}, over {paper['architectures']} architectures, "
        f"with N={_paper('nodes')}, T={_paper('passes')}, {SCHEMES[0]}; "
        "Figure 5 of the paper prints no numbers"
    )
    confidence = setting.bootstrap.confidence
    return Table(
        title=title(name, setting.scale, setting.scale_note, caption),
        columns=(*first, *columns(setting.architectures, confidence, paper)),
        rows=rows,
        footnotes=(paper_note(source), bootstrap_note(setting.bootstrap)),
    )
