"""The paper's claims as one figure: each effect with its interval, coloured by the verdict."""

import math
from collections.abc import Sequence
from textwrap import fill

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
    "ratio": "ratio to the claim's bound (logarithmic)",
}


def forest(findings: Sequence[Finding]) -> Figure:
    """Return the forest plot: a row for each claim and scale, the null in the middle.

    Right of the line is the claim's side, whatever its sign. A diamond is the paper's own number.

    Args:
        findings: the findings of one or more scales; only the main ones are drawn.
    """
    rows = {unit: _rows(findings, unit) for unit in UNITS}
    heights = [max(1, len(rows[unit])) + 1.2 for unit in UNITS]
    figure = blank(11, 0.26 * sum(heights) + 1.2)
    panels = figure.subplots(len(UNITS), 1, height_ratios=heights)
    for axes, (unit, of) in zip(panels, rows.items(), strict=True):
        _draw(axes, of, unit)
    count = sum(bool(own) for own in verdicts(findings).values())
    figure.suptitle(f"The paper's claims: {count} of {len(claims())} tested", fontsize=12)
    marks = [
        *(Line2D([], [], color=c, marker="o", lw=2, label=v) for v, c in COLOURS.items()),
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
        if number % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", zorder=0)
        if number not in seen:
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
            seen.add(number)
            if claim.paper is not None and claim.paper > 0:
                axes.plot(
                    _clip(_side(claim.paper, number), edge), y, "D", mfc="none", mec="#333333", ms=6
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
        axes.plot(_clip(_side(one.value, number), edge), y, "o", color=colour, ms=6)
    axes.set_xlim(-1.05 * edge, 1.05 * edge)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
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


def _clip(value: float, edge: float) -> float:
    return max(-edge, min(edge, value))


def _edge(rows: Sequence[tuple[int, Finding | None]], unit: str) -> float:
    """Return how far a panel reaches to each side."""
    if unit == "R":
        return 1.0
    there = [
        abs(_side(end, one.claim))
        for _, one in rows
        if one
        for end in (one.value, one.low, one.high)
        if not math.isnan(end)
    ]
    return max([*there, 0.5]) if unit == "points" else min(2.0, max([*there, 0.5]))
