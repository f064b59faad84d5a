"""Table 4 (section 5.3): what each surrogate costs, and how well it ranks architectures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from ghn_pipeline.errors import UserError
from ghn_pipeline.paper import numbers
from ghn_pipeline.paper.table import Table
from ghn_pipeline.search.correlation import Estimate, table_correlations

NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Row:
    """What one method was measured to do: costs in seconds of the accelerator, accuracies [n]."""

    initial_seconds: float | None  # to train the GHN or the one-shot model; None: nothing to train
    per_architecture_seconds: float
    predicted: np.ndarray
    truth: np.ndarray


def table4(
    rows: Mapping[str, Row],
    *,
    scale: str,
    scale_note: str,
    architectures: int,
    costs: bool,
    resamples: int,
    confidence: float,
    seed: int,
) -> Table:
    """Return Table 4, our numbers beside the paper's, in the paper's order.

    Args:
        rows: by the ids of Table 4 in numbers.yaml; also 'sgd-k' for any other number of steps k.
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words, such as 'quick preset (16 x 16 images)'.
        architectures: n, the number of architectures that every row was measured on.
        costs: whether to print ours; without them the table is the same in every run.
        resamples, confidence, seed: of the bootstrap, see `correlation.correlate`.

    Raises:
        UserError: a row was not measured on `architectures` architectures, or see `correlate`.
        ValueError: an id that is neither the paper's nor 'sgd-k'.
    """
    for key, row in rows.items():
        if len(row.truth) != architectures:
            raise UserError(
                f"row {key} of Table 4 was measured on {len(row.truth)} architectures and the "
                f"table is of {architectures}. Make that row again."
            )
    paper = numbers.table("table4")["rows"]
    bootstrap = {"resamples": resamples, "confidence": confidence, "seed": seed}
    return Table(
        title=_title(scale, scale_note),
        columns=_columns(architectures, confidence),
        rows=tuple(
            _cells(key, rows.get(key), paper.get(key), costs, bootstrap)
            for key in sorted({*paper, *rows}, key=_order)
        ),
        footnotes=_footnotes(resamples, confidence),
    )


def summary(rows: Mapping[str, Row], *, resamples: int, confidence: float, seed: int) -> str:
    """Return one line a method, in the order of Table 4, each coefficient with its interval.

    Raises:
        UserError: see `correlation.correlate`.
        ValueError: an id that is neither the paper's nor 'sgd-k'.
    """
    lines = []
    for key in sorted(rows, key=_order):
        row = rows[key]
        found = table_correlations(
            row.predicted, row.truth, resamples=resamples, confidence=confidence, seed=seed
        )
        everything = {name: show(estimate) for name, estimate in found["all"].items()}
        lines.append(
            f"{_method(key)}: Pearson R {everything['pearson']} over {len(row.truth)} "
            f"architectures; better half {show(found['better_half']['pearson'])}; "
            f"Spearman {everything['spearman']}; Kendall {everything['kendall']}"
        )
    return "\n".join(lines)


def metrics(
    rows: Mapping[str, Row], *, resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return each method's coefficients as plain numbers, None where one is undefined.

    Raises:
        UserError: see `correlation.correlate`.
    """
    found = {}
    for key in sorted(rows, key=_order):
        over = table_correlations(
            rows[key].predicted,
            rows[key].truth,
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        )
        found[key] = {
            f"{name}{'' if which == 'all' else '_better_half'}": _or_none(estimate.value)
            for which, estimates in over.items()
            for name, estimate in estimates.items()
        }
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value  # JSON has no NaN


def show(estimate: Estimate) -> str:
    """Return '0.68 [0.55, 0.78]', or 'undefined' where an accuracy was constant."""
    if math.isnan(estimate.value):
        return "undefined"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _order(key: str) -> tuple[int, int]:
    """The paper's order, SGD by its steps and then the others, with room for any k of 'sgd-k'."""
    if key.startswith("sgd-"):
        return 0, int(key.removeprefix("sgd-"))
    return 1, list(numbers.table("table4")["rows"]).index(key)


def _method(key: str) -> str:
    paper = numbers.table("table4")["rows"]
    return paper[key]["method"] if key in paper else f"SGD {key.removeprefix('sgd-')} Steps"


def _title(scale: str, scale_note: str) -> str:
    note = scale_note if scale == "paper" else f"{scale_note}, not the paper's scale"
    return f"Table 4 — {note}. Correlation of the predicted with the true accuracy"


def _columns(architectures: int, confidence: float) -> tuple[tuple[str, str], ...]:
    paper = numbers.table("table4")
    random, top = f"Random-{architectures}", f"Top-{(architectures + 1) // 2}"
    interval = f"[{confidence:.0%} interval]"
    initial, each = "Initial (accelerator hours)", "Per architecture (accelerator seconds)"
    return (
        ("", "Method"),
        *((initial, "ours"), (initial, "paper"), (each, "ours"), (each, "paper")),
        ("Pearson R", f"{random} {interval}"),
        ("Pearson R", f"paper, Random-{paper['architectures']}"),
        ("Pearson R", f"{top} {interval}"),
        ("Pearson R", f"paper, Top-{paper['better_half']}"),
        *((name, f"{n} {interval}") for name in ("Spearman", "Kendall") for n in (random, top)),
    )


def _cells(
    key: str, row: Row | None, paper: dict[str, Any] | None, costs: bool, bootstrap: dict[str, Any]
) -> tuple[str, ...]:
    initial, each = _our_costs(row, costs)
    all_r, top_r, *others = _our_correlations(row, bootstrap)
    paper = paper or dict.fromkeys(("initial", "per_architecture", "random", "top"))
    return (
        *(_method(key), initial, _printed(paper["initial"], "g")),
        *(each, _printed(paper["per_architecture"], "g")),
        *(all_r, _printed(paper["random"], ".2f")),
        *(top_r, _printed(paper["top"], ".2f")),
        *others,
    )


def _our_costs(row: Row | None, costs: bool) -> tuple[str, str]:
    if row is None:
        return "not run", "not run"
    if not costs:
        return "not timed", "not timed"
    initial = NONE if row.initial_seconds is None else _two_digits(row.initial_seconds / 3600)
    return initial, _two_digits(row.per_architecture_seconds)


def _our_correlations(row: Row | None, bootstrap: dict[str, Any]) -> list[str]:
    if row is None:
        return ["not run"] * 6
    found = table_correlations(row.predicted, row.truth, **bootstrap)
    return [
        show(found[over][name])
        for name in ("pearson", "spearman", "kendall")
        for over in ("all", "better_half")
    ]


def _printed(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _two_digits(value: float) -> str:
    """Two significant digits and no exponent: '0.00012', '9.0', '120'."""
    return format(Decimal(f"{value:.1e}"), "f")


def _footnotes(resamples: int, confidence: float) -> tuple[str, ...]:
    paper = numbers.table("table4")
    return (
        f"Columns 'paper': {paper['place']}, over {paper['architectures']} architectures, "
        "costs of its own GPUs. 'not run': the paper has this row and this run does not. "
        f"'{NONE}': no such number.",
        f"In brackets: {confidence:.0%} percentile bootstrap interval, {resamples} paired "
        "resamples of the architectures. Top: the better half by true accuracy. Kendall: tau-b. "
        "'undefined': an accuracy is the same for all architectures.",
    )
