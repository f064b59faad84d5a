"""Parts that Tables 4 and 5 and Figures 5 and 6 share: the coefficients of each method and their
differences, and their columns, cells and footnotes."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.ranking.methods import Comparison, Correlations

NONE = "\N{EN DASH}"
NOT_RUN = "not run"
NOT_TIMED = "not timed"
#: The row that all others are held against.
GHN = "ghn"
#: The measure of the paper's figures.
PAPERS = "accuracy"
#: The measures in words.
MEASURED = {PAPERS: "", "likelihood": ", by likelihood", "flow": ", by flow"}


def behind_ghn(comparison: Comparison[str], key: str) -> Correlations | None:
    """Return the correlations of the GHN less those of a row.

    A row 'KEY/MEASURE' is held against 'ghn/MEASURE'. None for the GHN itself, or without a GHN.
    """
    ghn = f"{GHN}{''.join(key.partition('/')[1:])}"
    if ghn == key or ghn not in comparison.methods:
        return None
    return comparison.contrast({ghn: 1, key: -1})


def metrics(found: Mapping[str, Correlations]) -> dict[str, dict[str, float | None]]:
    """Return the coefficients as plain numbers for JSON, None if one is undefined."""
    return {
        key: {
            f"{name}{'' if over == 'all' else '_better_half'}": _or_none(estimate.value)
            for over, estimates in halves.items()
            for name, estimate in estimates.items()
        }
        for key, halves in found.items()
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value  # JSON has no NaN


def show(estimate: Estimate, *, sign: bool = False) -> str:
    """Return '0.68 [0.55, 0.78]', 'undefined' if an accuracy was constant, or '0.68 [too few]'.

    Args:
        estimate: the coefficient or difference.
        sign: whether to print a plus sign, as for differences.
    """
    if math.isnan(estimate.value):
        return "undefined"
    form = "+.2f" if sign else ".2f"
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}} [too few]"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def names(architectures: int) -> dict[str, str]:
    """Return the paper's names of 'all' architectures and of the 'better_half'."""
    return {"all": f"Random-{architectures}", "better_half": f"Top-{(architectures + 1) // 2}"}


def columns(
    architectures: int, confidence: float, paper: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Return the columns of `cells`: Pearson's R beside the paper's, and the other coefficients.

    Args:
        architectures: number of architectures in our columns.
        confidence: confidence level of the intervals.
        paper: the paper's table, with 'architectures' and 'better_half'.
    """
    random, top = names(architectures).values()
    interval = f"[{confidence:.0%} interval]"
    return (
        ("Pearson R", f"{random} {interval}"),
        ("Pearson R", f"paper, Random-{paper['architectures']}"),
        ("Pearson R", f"{top} {interval}"),
        ("Pearson R", f"paper, Top-{paper['better_half']}"),
        *((name, f"{n} {interval}") for name in ("Spearman", "Kendall") for n in (random, top)),
    )


def cells(found: Correlations | None, paper: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return a row's cells under `columns`.

    Args:
        found: our coefficients; None if the row was not run.
        paper: the paper's coefficients, 'random' and 'top'; None if it has no such row.
    """
    all_r, top_r, *others = _ours(found)
    paper = paper or {"random": None, "top": None}
    return (
        *(all_r, printed(paper["random"], ".2f")),
        *(top_r, printed(paper["top"], ".2f")),
        *others,
    )


def _ours(found: Correlations | None) -> list[str]:
    if found is None:
        return [NOT_RUN] * 6
    return [
        show(found[over][name])
        for name in ("pearson", "spearman", "kendall")
        for over in ("all", "better_half")
    ]


def title(name: str, scale: str, scale_note: str, caption: str) -> str:
    """Return a table's title; except for the scale 'paper' it says it is not the paper's scale."""
    note = scale_note if scale == "paper" else f"{scale_note}, not the paper's scale"
    return f"{name} — {note}. {caption}"


def printed(value: float | None, form: str) -> str:
    """Return a number of the paper, or the en dash if it gives none."""
    return NONE if value is None else format(value, form)


def two_digits(value: float) -> str:
    """Return two significant digits without an exponent: '0.00012', '9.0', '120'."""
    return format(Decimal(f"{value:.1e}"), "f")


def paper_note(source: str) -> str:
    """Return the footnote on the columns 'paper', from `source`, and on empty cells."""
    return (
        f"Columns 'paper': {source}. '{NOT_RUN}': the paper has this row and this run does not. "
        f"'{NONE}': no such number."
    )


def interval_note(confidence: float) -> str:
    """Return the footnote on the intervals and the coefficients."""
    return (
        f"In brackets: {confidence:.0%} interval over architectures and, of several seeds, over "
        "seeds; of a difference, over the same architectures. 'too few': too few architectures for "
        "an interval that covers. Top: the better half by true accuracy. Kendall: tau-b. "
        "'undefined': an accuracy is the same for all architectures."
    )
