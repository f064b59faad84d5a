"""The search's best beside random architectures, all trained as the ground truth is."""

from collections.abc import Mapping, Sequence

from ghn_pipeline.ranking.correlation import Floats
from ghn_pipeline.report.correlations import title
from ghn_pipeline.report.paper.claims import Finding, shown
from ghn_pipeline.report.table import Table


def top_table(
    groups: Mapping[str, tuple[Floats, Floats]],
    findings: Sequence[Finding],
    *,
    scale: str,
    scale_note: str,
) -> Table:
    """Return the table of groups of architectures, with the differences as footnotes.

    Args:
        groups: by name, accuracies on the test images as fractions, and parameters.
        findings: the differences.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words.
    """
    headings = ("Architectures", "Number", "Test accuracy (%)", "Parameters (millions)")
    return Table(
        title=title("The search's best", scale, scale_note, "All trained as the ground truth is"),
        columns=tuple(("", heading) for heading in headings),
        rows=tuple(
            (
                name,
                str(len(accuracies)),
                _spread(100 * accuracies, ".2f", ".2f"),
                _spread(sizes / 1e6, ".3g", ".2g"),
            )
            for name, (accuracies, sizes) in groups.items()
        ),
        footnotes=(
            "±: standard deviation over architectures.",
            *(f"Difference, {one.by}: {shown(one)} points (Welch)." for one in findings),
        ),
    )


def _spread(values: Floats, form: str, deviation: str) -> str:
    """Return '93.10 ± 0.25', or '93.10' for a single value."""
    mean = f"{values.mean():{form}}"
    return f"{mean} ± {values.std(ddof=1):{deviation}}" if len(values) > 1 else mean
