"""Table 5 (section 5.4): the effects of shared parameters and of passed embeddings."""

from collections.abc import Mapping

from ghn_pipeline.report.correlations import (
    Bootstrap,
    Correlations,
    bootstrap_note,
    cells,
    columns,
    paper_note,
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


def table5(
    found: Mapping[tuple[bool, bool], Correlations],
    *,
    scale: str,
    scale_note: str,
    architectures: int,
    bootstrap: Bootstrap,
) -> Table:
    """Return Table 5, our numbers beside the paper's, in the paper's order.

    Args:
        found: the correlations by (parameters shared, embeddings passed), see
            `correlations.measure`. Shared parameters without passed embeddings, which the paper
            does not have, stand last.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words.
        architectures: number of architectures in the correlations.
        bootstrap: settings of the intervals.
    """
    paper = numbers.table("table5")
    printed = {
        (row["shared_parameters"], row["passing_embeddings"]): row for row in paper["rows"].values()
    }
    return Table(
        title=title("Table 5", scale, scale_note, "Correlation of stacked GHNs"),
        columns=(
            *(("", "Method"), ("", "SP"), ("", "PE")),
            *columns(architectures, bootstrap.confidence, paper),
        ),
        rows=tuple(
            (NAMES[key], *map(_yes, key), *cells(found.get(key), printed.get(key)))
            for key in NAMES
            if key in printed or key in found
        ),
        footnotes=(
            "SP: all blocks share the parameters of the propagation (section 4.3). PE: the mean "
            "embedding of a block is passed on to the next (Eq. 12 to 14).",
            paper_note(f"{paper['place']}, over {paper['architectures']} architectures"),
            bootstrap_note(bootstrap),
        ),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
