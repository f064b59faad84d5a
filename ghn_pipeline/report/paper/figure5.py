"""Figure 5 (section 5.4): correlation by the nodes of the training graphs (a), and by the steps
and the scheme of propagation (b), each as a figure and as a table of its points."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.ranking.methods import Correlations
from ghn_pipeline.report.correlations import (
    MEASURED,
    PAPERS,
    cells,
    columns,
    interval_note,
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
        confidence: level of the intervals.
    """

    scale: str
    scale_note: str
    architectures: int
    confidence: float


@dataclass(frozen=True)
class _Series:
    label: str
    over: str  # 'all' or 'better_half'
    line: str
    marker: str
    points: Mapping[int, Estimate]


#: The correlations of the GHNs of one point, by measure.
Point = Mapping[str, Correlations]


def figure5a(points: Mapping[int, Point], *, passes: int, scheme: str, setting: Setting) -> Figure:
    """Return Pearson's R, with intervals, against the nodes of the training graphs.

    Args:
        points: the correlations by N, the nodes in training; undefined ones are left out.
        passes, scheme: settings of the propagation, the same for all points.
        setting: the other settings that the points share.
    """
    halves = names(setting.architectures)

    def series(by: str) -> list[_Series]:
        chosen = {nodes: point[by] for nodes, point in points.items()}
        return [
            _Series(halves[over], over, "-", marker, _pearson(chosen, over))
            for over, marker in zip(COLOURS, "os", strict=True)
        ]

    heading = f"Figure 5a: nodes in training (T={passes}, {scheme})"
    return _drawn(points, series, heading, "nodes in training, N", _paper("nodes"), setting)


def figure5b(points: Mapping[tuple[str, int], Point], *, nodes: int, setting: Setting) -> Figure:
    """Return Pearson's R, with intervals, against the steps of propagation, a line per scheme.

    Args:
        points: the correlations by (scheme, T); undefined ones are left out.
        nodes: N in training, the same for all points.
        setting: the other settings that the points share.

    Raises:
        ValueError: a scheme is neither 'forward-backward' nor 'synchronous'.
    """
    halves = names(setting.architectures)

    def series(by: str) -> list[_Series]:
        found = []
        for scheme in sorted({scheme for scheme, _ in points}, key=SCHEMES.index):
            line, markers = STYLES[scheme]
            chosen = {passes: point[by] for (of, passes), point in points.items() if of == scheme}
            found += [
                _Series(f"{scheme}, {halves[over]}", over, line, marker, _pearson(chosen, over))
                for over, marker in zip(COLOURS, markers, strict=True)
            ]
        return found

    heading = f"Figure 5b: propagation schemes (N={nodes})"
    return _drawn(points, series, heading, "propagation steps, T", _paper("passes"), setting)


def points5a(points: Mapping[int, Point], *, passes: int, scheme: str, setting: Setting) -> Table:
    """Return the points of `figure5a`, which has the same arguments, as a table."""
    paper = {_paper("nodes"): numbers.table("table4")["rows"]["ghn"]}
    rows = tuple(
        (str(nodes), *row)
        for nodes in sorted({*points, *paper})
        for row in _rows(points.get(nodes), paper.get(nodes))
    )
    caption = f"Correlation by the nodes in training (N), with T={passes}, {scheme}"
    return _table("Figure 5a", caption, (("", "N"),), rows, setting)


def points5b(points: Mapping[tuple[str, int], Point], *, nodes: int, setting: Setting) -> Table:
    """Return the points of `figure5b`, which has the same arguments, as a table.

    Raises:
        ValueError: a scheme is neither 'forward-backward' nor 'synchronous'.
    """
    paper = {(SCHEMES[0], _paper("passes")): numbers.table("table4")["rows"]["ghn"]}
    rows = tuple(
        (key[0], str(key[1]), *row)
        for key in sorted({*points, *paper}, key=lambda key: (SCHEMES.index(key[0]), key[1]))
        for row in _rows(points.get(key), paper.get(key))
    )
    caption = f"Correlation by the scheme and the steps (T) of propagation, with N={nodes}"
    return _table("Figure 5b", caption, (("", "Scheme"), ("", "T")), rows, setting)


def _rows(point: Point | None, paper: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Return the cells of a point, a row for each measure."""
    return [
        (by, *cells(point[by] if point else None, paper if by == PAPERS else None))
        for by in point or [PAPERS]
    ]


def _pearson(points: Mapping[int, Correlations], over: str) -> dict[int, Estimate]:
    found = {x: points[x][over]["pearson"] for x in sorted(points)}
    return {x: estimate for x, estimate in found.items() if not math.isnan(estimate.value)}


def _drawn(
    points: Mapping[Any, Point],
    series: Callable[[str], Sequence[_Series]],
    heading: str,
    label: str,
    paper_x: int,
    setting: Setting,
) -> Figure:
    """Return a figure with a panel for each measure."""
    measures = list(next(iter(points.values()), MEASURED))[:2]
    figure = blank(6.5 * len(measures), 5.2)
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    small = "" if setting.scale == "paper" else setting.scale_note
    marks = (
        f"bars: {setting.confidence:.0%} interval; "
        f"stars: the paper's N={_paper('nodes')}, T={_paper('passes')}"
    )
    figure.suptitle(titled([heading, marks], small, width=65 * len(measures)), fontsize=11)
    panels[0].set_ylabel("Pearson R", fontsize=12)
    for axes, by in zip(panels, measures, strict=True):
        axes.set_title(f"ranked by {by}", fontsize=11)
        axes.set_xlabel(label, fontsize=12)
        ruled(axes)
        _draw(axes, series(by), paper_x)
        if by == PAPERS:
            _draw_paper(axes, paper_x)
    # a column for each scheme, and one for the paper
    handles, labels = panels[0].get_legend_handles_labels()
    columns = len(series(measures[0])) // 2 + 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def _draw(axes: Axes, series: Sequence[_Series], paper_x: int) -> None:
    ticks = sorted({paper_x, *(x for one in series for x in one.points)})
    axes.set_xticks(ticks)
    step = 0.012 * (ticks[-1] - ticks[0] or 1)  # bars side by side, so that none hides another
    for i, one in enumerate(series):
        _draw_series(axes, one, step * (i - (len(series) - 1) / 2))


def _draw_series(axes: Axes, series: _Series, shift: float) -> None:
    x = np.array(list(series.points)) + shift
    found, colour = list(series.points.values()), COLOURS[series.over]
    (line,) = axes.plot(x, [e.value for e in found], color=colour, alpha=0.8)
    line.set(linestyle=series.line, marker=series.marker, label=series.label)
    low, high = (np.array([getattr(e, end) for e in found]) for end in ("low", "high"))
    # bars are around the middle, because an interval need not be symmetric
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
    return Table(
        title=title(name, setting.scale, setting.scale_note, caption),
        columns=(
            *(*first, ("", "Measure")),
            *columns(setting.architectures, setting.confidence, paper),
        ),
        rows=rows,
        footnotes=(paper_note(source), interval_note(setting.confidence)),
    )
