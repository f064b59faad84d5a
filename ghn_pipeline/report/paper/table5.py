"""Table 5 (section 5.4): the effects of shared parameters and of passed embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass

from ghn_pipeline.ranking.methods import Correlations
from ghn_pipeline.report.correlations import (
    MEASURED,
    NONE,
    NOT_RUN,
    PAPERS,
    cells,
    columns,
    interval_note,
    names,
    paper_note,
    show,
    title,
)
from ghn_pipeline.report.paper import numbers
from ghn_pipeline.report.table import Table

NAMES = {
    (False, False): "Individual GHNs",
    (False, True): "Stacked GHN",
    (True, True): "Stacked GHN, shared parameters",
    (True, False): "Individual GHNs, shared parameters",
}


@dataclass(frozen=True)
class Stacking:
    """How well the GHNs of one row rank.

    Attributes:
        correlations: the correlations by measure.
        ahead: by measure, those of this row less those of the row before; {} for the first.
        seeds: number of GHNs.
        difference: how much the generated weights of consecutive blocks differ, as a fraction; None
            for networks without such weights.
    """

    correlations: Mapping[str, Correlations]
    ahead: Mapping[str, Correlations]
    seeds: int
    difference: float | None


def table5(
    found: Mapping[tuple[bool, bool], Stacking],
    *,
    scale: str,
    scale_note: str,
    architectures: int,
    confidence: float,
) -> Table:
    """Return Table 5, our numbers beside the paper's, in the paper's order.

    Args:
        found: the rows by (parameters shared, embeddings passed). Shared parameters without passed
            embeddings, which the paper does not have, stand last.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words.
        architectures: number of architectures in the correlations.
        confidence: level of the intervals.
    """
    paper = numbers.table("table5")
    printed = {
        (row["shared_parameters"], row["passing_embeddings"]): row for row in paper["rows"].values()
    }
    random, top = names(architectures).values()
    rows = []
    for key in NAMES:
        if key not in printed and key not in found:
            continue
        one = found.get(key)
        for by in one.correlations if one else [PAPERS]:
            rows.append(
                (
                    *(NAMES[key] + MEASURED[by], *map(_yes, key)),
                    *((str(one.seeds), _percent(one.difference)) if one else (NOT_RUN,) * 2),
                    *cells(
                        one.correlations[by] if one else None,
                        printed.get(key) if by == PAPERS else None,
                    ),
                    *(_ahead(one.ahead.get(by)) if one else (NOT_RUN,) * 4),
                )
            )
    return Table(
        title=title("Table 5", scale, scale_note, "Correlation of stacked GHNs"),
        columns=(
            *(("", "Method"), ("", "SP"), ("", "PE"), ("", "Seeds")),
            ("", "Weights of consecutive blocks differ by"),
            *columns(architectures, confidence, paper),
            *(
                (f"{name} less that of the row before", over)
                for name in ("Pearson R", "Spearman")
                for over in (random, top)
            ),
        ),
        rows=tuple(rows),
        footnotes=(
            "SP: all blocks share one GHN (section 4.3); without, each has a GHN of its own. PE: "
            "the mean embedding of a block is passed on to the next (Eq. 12 to 14); without, no "
            "weight depends on another block. The row before has the same measure.",
            paper_note(f"{paper['place']}, over {paper['architectures']} architectures"),
            interval_note(confidence),
        ),
    )


def _ahead(found: Correlations | None) -> tuple[str, ...]:
    """Return the cells of the differences to the row before; None if there is no such row."""
    if found is None:
        return (NONE,) * 4
    return tuple(
        show(found[over][name], sign=True)
        for name in ("pearson", "spearman")
        for over in ("all", "better_half")
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}%"
