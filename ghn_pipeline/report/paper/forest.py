"""The paper's claims as one figure: each effect with its interval, coloured by the verdict."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghn_pipeline.report.figure import blank
from ghn_pipeline.report.paper.claims import Finding, Verdict, claims, verdicts

#: Colours that the colour-blind can distinguish.
COLOURS: dict[Verdict, str] = {
    "supported": "#0072b2",
    "contradicted": "#d55e00",
    "undecided": "#888888",
    "not run": "#bbbbbb",
}
#: What a panel's axis shows; each panel has the claims of one unit.
UNITS = {
    "R": "Pearson R, or a difference of it",
    "points": "percentage points",
    "ratio": "factor from the claim's bound",
}
#: Factors that are marked on the axis of ratios, and the largest that it reaches.
FACTORS = (1, 2, 5, 10, 20, 50, 100)


def forest(findings: Sequence[Finding]) -> Figure:
    """Return the forest plot: a row for each claim and scale, the null in the middle.

    Right of the line is the claim's side, whatever its sign. A diamond is the paper's own number.
    A triangle at the edge of a panel stands for a number beyond it.

    Args:
        findings: the findings of one or more scales; only the main ones are drawn.
    """
    rows = {unit: _rows(findings, unit) for unit in UNITS}
    heights = [max(1, len(rows[unit])) + 1.2 for unit in UNITS]
    figure = blank(11, 0.3 * sum(heights) + 1.2)
    panels = figure.subplots(len(UNITS), 1, height_ratios=heights)
    for axes, (unit, of) in zip(panels, rows.items(), strict=True):
        _draw(axes, of, unit)
    count = sum(bool(own) for own in verdicts(findings).values())
    figure.suptitle(f"The paper's claims: {count} of {len(claims())} tested", fontsize=12)
    marks = [
        *(
            Line2D([], [], color=colour, marker="o", lw=2, label=verdict)
            for verdict, colour in COLOURS.items()
            if verdict != "not run"
        ),
        Line2D([], [], color="#333333", marker="D", ls="", mfc="none", label="the paper's own"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=10)
    return figure


def _rows(findings: Sequence[Finding], unit: str) -> list[tuple[int, Finding | None]]:
    """Return the claims of a unit, each with a row for every main finding, or one without any."""
    of = {n: own for n, own in verdicts(findings).items() if claims()[n].unit == unit}
    rows: list[tuple[int, Finding | None]] = []
    for number, own in of.items():
        rows += [(number, one) for one in own] or [(number, None)]
    return rows


def _draw(axes: Axes, rows: Sequence[tuple[int, Finding | None]], unit: str) -> None:
    edge = _edge(rows, unit)
    axes.axvline(0, color="#333333", lw=1)
    seen: set[int] = set()
    for y, (number, one) in enumerate(rows):
        claim = claims()[number]
        colour = COLOURS[one.verdict if one else "not run"]
        new = number not in seen
        seen.add(number)
        if len(seen) % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", zorder=0)
        if new:
            label = fill(f"{number}. {claim.claim}", 62)
            axes.text(
                -0.02,
                y,
                label,
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
                fontsize=8,
            )
            if claim.paper is not None:
                _mark(
                    axes,
                    _side(claim.paper, number),
                    y,
                    edge,
                    "D",
                    mfc="none",
                    mec="#333333",
                    zorder=4,
                )
        said = f"{one.verdict} ({one.scale})" if one else "not run"
        axes.text(
            1.01,
            y,
            said,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=colour,
        )
        if one is None:
            continue
        if not math.isnan(one.low):
            ends = [_clip(_side(end, number), edge) for end in (one.low, one.high)]
            axes.hlines(y, min(ends), max(ends), color=colour, lw=2)
        _mark(axes, _side(one.value, number), y, edge, "o", color=colour)
    axes.set_xlim(-1.05 * edge, 1.05 * edge)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    if unit == "ratio":
        ticks = {math.copysign(math.log10(f), side): f for f in FACTORS for side in (-1, 1)}
        there = {tick: factor for tick, factor in ticks.items() if abs(tick) <= edge}
        axes.set_xticks(list(there), [f"{factor}×" for factor in there.values()])
    axes.set_xlabel(f"{UNITS[unit]}; right: as claimed", fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _side(value: float, number: int) -> float:
    """Return an effect as its distance from the null, positive on the claim's side."""
    claim = claims()[number]
    if claim.unit == "ratio":
        return claim.sign * math.log10(max(value, 1e-6) / claim.null)
    return claim.sign * (value - claim.null)


def _mark(axes: Axes, x: float, y: int, edge: float, marker: str, **look: Any) -> None:
    """Draw a mark, or a triangle at the edge of the panel if it lies beyond."""
    if abs(x) > edge:
        marker = ">" if x > 0 else "<"
    axes.plot(_clip(x, edge), y, marker, ms=6, **look)


def _clip(value: float, edge: float) -> float:
    return max(-edge, min(edge, value))


def _edge(rows: Sequence[tuple[int, Finding | None]], unit: str) -> float:
    """Return how far a panel reaches to each side."""
    if unit == "R":
        return 1.0
    ends = {(number, claims()[number].paper) for number, _ in rows}
    ends |= {(one.claim, end) for _, one in rows if one for end in (one.value, one.low, one.high)}
    there = [abs(_side(end, n)) for n, end in ends if end is not None and not math.isnan(end)]
    widest = max([*there, 0.5])
    return widest if unit == "points" else min(math.log10(FACTORS[-1]), widest)
