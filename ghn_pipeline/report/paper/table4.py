"""Table 4 (section 5.3): the costs of each method, and how well it ranks architectures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ghn_pipeline.ranking.intervals import Reliability
from ghn_pipeline.ranking.methods import Comparison, Correlations, Method
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.report.correlations import (
    MEASURED,
    NONE,
    NOT_RUN,
    NOT_TIMED,
    behind_ghn,
    cells,
    columns,
    interval_note,
    names,
    paper_note,
    printed,
    show,
    title,
    two_digits,
)
from ghn_pipeline.report.paper import numbers
from ghn_pipeline.report.table import Table


@dataclass(frozen=True)
class Found:
    """How well a method ranks.

    Attributes:
        by_test: the correlations with the truth on test images.
        by_validation: the same with the truth on validation images.
        ahead: those of the GHN by the same measure less those of this method; None for the GHN.
    """

    by_test: Correlations
    by_validation: Correlations
    ahead: Correlations | None


def measure_rows(by_test: Comparison[str], by_validation: Comparison[str]) -> dict[str, Found]:
    """Return how well each row ranks, in the order of Table 4.

    Args:
        by_test: the rows by the ids of Table 4 in numbers.yaml, 'sgd-k' for any number of steps k,
            or the names of `PROXIES`, against the truth on test images. 'ID/MEASURE' is a row by
            another measure than accuracy.
        by_validation: the same rows against the truth on validation images.

    Raises:
        ValueError: an id is none of these.
    """
    return {
        key: Found(by_test.of(key), by_validation.of(key), behind_ghn(by_test, key))
        for key in sorted(by_test.methods, key=_order)
    }


def table4(
    rows: Mapping[str, Method],
    found: Mapping[str, Found],
    reliability: Reliability | None,
    *,
    scale: str,
    scale_note: str,
    architectures: int,
    costs: bool,
    confidence: float,
) -> Table:
    """Return Table 4, our numbers beside the paper's, in the paper's order; proxies come last.

    Args:
        rows: the measured rows.
        found: how well they rank, see `measure_rows`.
        reliability: the reliability of the truth, None if it was not measured.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words, such as 'quick preset (16 x 16 images)'.
        architectures: n, the number of architectures that every row was measured on.
        costs: whether to print our costs; without them the table is the same in every run.
        confidence: level of the intervals.
    """
    paper = numbers.table("table4")
    caption = "Correlation of the predicted with the true accuracy"
    initial, each = "Initial (accelerator hours)", "Per architecture (accelerator seconds)"
    random, top = names(architectures).values()
    return Table(
        title=title("Table 4", scale, scale_note, caption),
        columns=(
            *(("", "Method"), ("", "Given"), ("", "Seeds"), ("", "Labels")),
            *((initial, "ours"), (initial, "paper"), (each, "ours"), (each, "paper")),
            *columns(architectures, confidence, paper),
            *(("GHN's R less this", random), ("GHN's R less this", top)),
            ("Pearson R, truth on validation images", random),
        ),
        rows=tuple(
            _row(key, rows.get(key), found.get(key), costs)
            for key in sorted({*paper["rows"], *rows}, key=_order)
        ),
        footnotes=(
            paper_note(
                f"{paper['place']}, over {paper['architectures']} architectures, "
                "costs of its own GPUs"
            ),
            interval_note(confidence),
            "Truth: accuracy on the test images after training; nothing was chosen by it. "
            "SGD K Steps start from another seed than the truth, and are judged by validation "
            "images. Labels: architectures whose accuracies chose a method's settings.",
            reliability_note(reliability),
            *_untrained_note(rows),
        ),
    )


def reliability_note(found: Reliability | None) -> str:
    """Return the footnote on how far the truth can be relied on."""
    if found is None:
        return "How far the truth can be relied on was not measured (correlation.repeats)."
    return (
        f"Reliability of the truth: R {show(found.correlations['pearson'])} between two seeds of "
        f"SGD, over {found.architectures} architectures. No ranking can have a larger R than "
        f"{show(found.ceiling)}."
    )


def _row(key: str, row: Method | None, found: Found | None, costs: bool) -> tuple[str, ...]:
    paper = numbers.table("table4")["rows"].get(key)
    described = (row.given, str(len(row.predictions)), str(row.labels)) if row else (NOT_RUN,) * 3
    return (
        *(_method(key), *described, *_costs(row, paper, costs)),
        *cells(found.by_test if found else None, paper),
        *(_added(found) if found else (NOT_RUN,) * 3),
    )


def _added(found: Found) -> tuple[str, ...]:
    """Return the cells after the coefficients: the GHN's lead, and the other truth."""
    return (
        *(_pearson(found.ahead, over, sign=True) for over in ("all", "better_half")),
        _pearson(found.by_validation, "all"),
    )


def _pearson(found: Correlations | None, over: str, *, sign: bool = False) -> str:
    return NONE if found is None else show(found[over]["pearson"], sign=sign)


def summary(found: Mapping[str, Found], architectures: int) -> str:
    """Return one line for each method, with its coefficients and intervals."""
    return "\n".join(_line(key, found[key].by_test, architectures) for key in found)


def _line(key: str, found: Correlations, architectures: int) -> str:
    over_all = {name: show(estimate) for name, estimate in found["all"].items()}
    return (
        f"{_method(key)}: Pearson R {over_all['pearson']} over {architectures} "
        f"architectures; better half {show(found['better_half']['pearson'])}; "
        f"Spearman {over_all['spearman']}; Kendall {over_all['kendall']}"
    )


def _order(key: str) -> tuple[int, int, int]:
    """Return a sort key for the paper's order: SGD by its steps, and then the others."""
    of, by = split(key)
    if of.startswith("sgd-"):
        return 0, int(of.removeprefix("sgd-")), 0
    known = [*numbers.table("table4")["rows"], *PROXIES]
    return 1, known.index(of), list(MEASURED).index(by)


def _method(key: str) -> str:
    of, by = split(key)
    if of in PROXIES:
        return PROXIES[of].title
    named: str = numbers.table("table4")["rows"].get(of, {}).get("method")
    return (named or f"SGD {of.removeprefix('sgd-')} Steps") + MEASURED[by]


def split(key: str) -> tuple[str, str]:
    """Return the id of a row and its measure."""
    of, _, by = key.partition("/")
    return of, by or "accuracy"


def _untrained_note(rows: Mapping[str, Method]) -> tuple[str, ...]:
    """Return the footnote on the rows of proxies, if there are any."""
    names = [proxy.title for key, proxy in PROXIES.items() if key in rows]
    if not names:
        return ()
    return (
        f"{', '.join(names)}: baselines that are not in the paper's table. They need no training: "
        "they are counts, or measured on the network's initial weights as by Abdelfattah et al., "
        "Zero-Cost Proxies for Lightweight NAS, ICLR 2021.",
    )


def _costs(row: Method | None, paper: Mapping[str, Any] | None, costs: bool) -> tuple[str, ...]:
    """Return the cells of initial costs and costs per architecture, ours and the paper's."""
    initial, each = _our_costs(row, costs)
    paper = paper or {"initial": None, "per_architecture": None}
    return (
        *(initial, printed(paper["initial"], "g")),
        *(each, printed(paper["per_architecture"], "g")),
    )


def _our_costs(row: Method | None, costs: bool) -> tuple[str, str]:
    if row is None:
        return NOT_RUN, NOT_RUN
    if not costs:
        return NOT_TIMED, NOT_TIMED
    initial = NONE if row.initial_seconds is None else two_digits(row.initial_seconds / 3600)
    return initial, NONE if row.each_seconds is None else two_digits(row.each_seconds)
