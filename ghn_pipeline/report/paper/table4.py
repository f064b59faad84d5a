"""Table 4 (section 5.3): the costs of each method, and how well it ranks architectures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.report.correlations import (
    NONE,
    NOT_RUN,
    NOT_TIMED,
    Bootstrap,
    Correlations,
    bootstrap_note,
    cells,
    columns,
    measure,
    paper_note,
    printed,
    show,
    title,
    two_digits,
)
from ghn_pipeline.report.paper import numbers
from ghn_pipeline.report.table import Table


@dataclass(frozen=True)
class Row:
    """The measurements of one method: costs in seconds of the accelerator, and accuracies [n]."""

    initial_seconds: float | None  # training the GHN or one-shot model; None: nothing to train
    per_architecture_seconds: float
    predicted: np.ndarray
    truth: np.ndarray


def measure_rows(
    rows: Mapping[str, Row], architectures: int, bootstrap: Bootstrap
) -> dict[str, Correlations]:
    """Return each row's correlations, in the order of Table 4.

    Args:
        rows: the rows by the ids of Table 4 in numbers.yaml, 'sgd-k' for any number of steps k, or
            the names of `PROXIES`.
        architectures: n, the number of architectures that every row was measured on.
        bootstrap: settings of the intervals.

    Raises:
        UserError: a row was not measured on `architectures` architectures, or `correlate` raises
            it.
        ValueError: an id is none of these.
    """
    pairs = {key: (rows[key].predicted, rows[key].truth) for key in sorted(rows, key=_order)}
    return measure(pairs, of="Table 4", architectures=architectures, bootstrap=bootstrap)


def table4(
    rows: Mapping[str, Row],
    found: Mapping[str, Correlations],
    *,
    scale: str,
    scale_note: str,
    architectures: int,
    costs: bool,
    bootstrap: Bootstrap,
) -> Table:
    """Return Table 4, our numbers beside the paper's, in the paper's order; proxies come last.

    Args:
        rows: the measured rows.
        found: the correlations, see `measure_rows`.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words, such as 'quick preset (16 x 16 images)'.
        architectures: n, the number of architectures that every row was measured on.
        costs: whether to print our costs; without them the table is the same in every run.
        bootstrap: settings of the intervals.
    """
    paper = numbers.table("table4")
    caption = "Correlation of the predicted with the true accuracy"
    initial, each = "Initial (accelerator hours)", "Per architecture (accelerator seconds)"
    return Table(
        title=title("Table 4", scale, scale_note, caption),
        columns=(
            ("", "Method"),
            *((initial, "ours"), (initial, "paper"), (each, "ours"), (each, "paper")),
            *columns(architectures, bootstrap.confidence, paper),
        ),
        rows=tuple(
            (
                _method(key),
                *_costs(rows.get(key), paper["rows"].get(key), costs),
                *cells(found.get(key), paper["rows"].get(key)),
            )
            for key in sorted({*paper["rows"], *rows}, key=_order)
        ),
        footnotes=(
            paper_note(
                f"{paper['place']}, over {paper['architectures']} architectures, "
                "costs of its own GPUs"
            ),
            bootstrap_note(bootstrap),
            *_untrained_note(rows),
        ),
    )


def summary(found: Mapping[str, Correlations], architectures: int) -> str:
    """Return one line for each method, with its coefficients and intervals."""
    return "\n".join(_line(key, found[key], architectures) for key in found)


def _line(key: str, found: Correlations, architectures: int) -> str:
    over_all = {name: show(estimate) for name, estimate in found["all"].items()}
    return (
        f"{_method(key)}: Pearson R {over_all['pearson']} over {architectures} "
        f"architectures; better half {show(found['better_half']['pearson'])}; "
        f"Spearman {over_all['spearman']}; Kendall {over_all['kendall']}"
    )


def _order(key: str) -> tuple[int, int]:
    """Return a sort key for the paper's order: SGD by its steps, and then the others."""
    if key.startswith("sgd-"):
        return 0, int(key.removeprefix("sgd-"))
    return 1, [*numbers.table("table4")["rows"], *PROXIES].index(key)


def _method(key: str) -> str:
    if key in PROXIES:
        return PROXIES[key].title
    named: str = numbers.table("table4")["rows"].get(key, {}).get("method")
    return named or f"SGD {key.removeprefix('sgd-')} Steps"


def _untrained_note(rows: Mapping[str, Row]) -> tuple[str, ...]:
    """Return the footnote on the rows of proxies, if there are any."""
    names = [proxy.title for key, proxy in PROXIES.items() if key in rows]
    if not names:
        return ()
    return (
        f"{', '.join(names)}: rivals that are not in the paper's table. They need no training: "
        "they are counts, or measured on the network's initial weights as by Abdelfattah et al., "
        "Zero-Cost Proxies for Lightweight NAS, ICLR 2021.",
    )


def _costs(row: Row | None, paper: Mapping[str, Any] | None, costs: bool) -> tuple[str, ...]:
    """Return the cells of initial costs and costs per architecture, ours and the paper's."""
    initial, each = _our_costs(row, costs)
    paper = paper or {"initial": None, "per_architecture": None}
    return (
        *(initial, printed(paper["initial"], "g")),
        *(each, printed(paper["per_architecture"], "g")),
    )


def _our_costs(row: Row | None, costs: bool) -> tuple[str, str]:
    if row is None:
        return NOT_RUN, NOT_RUN
    if not costs:
        return NOT_TIMED, NOT_TIMED
    initial = NONE if row.initial_seconds is None else two_digits(row.initial_seconds / 3600)
    return initial, two_digits(row.per_architecture_seconds)
