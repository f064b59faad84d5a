"""The tables of a benchmark: how well each method ranks cells, and how good the found cells are.

They are no part of the paper. Rankings are compared with published accuracies, and printed beside
published rankings of other authors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from ghn_pipeline.ranking.correlation import Estimate, coefficients, top_precision
from ghn_pipeline.ranking.methods import Comparison, Correlations, Method
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.report.correlations import (
    GHN,
    NONE,
    NOT_TIMED,
    behind_ghn,
    interval_note,
    printed,
    show,
    two_digits,
)
from ghn_pipeline.report.table import Table
from ghn_pipeline.spaces.published import PublishedAccuracies

ENSEMBLE = "ghn-ensemble"
PUBLISHED = "Spearman, published"  # a column only where there are some


@dataclass(frozen=True)
class Found:
    """How well a method ranks cells, in the mean over its seeds.

    Attributes:
        correlations: 'pearson', 'spearman' and 'kendall' over 'all' cells and the 'better_half'.
        behind: those of the GHN, by the same measure if it has several, less those of this method;
            None for the GHN itself.
        precision: fraction of the cells ranked best that truly are best, see `top_precision`.
        spread: standard deviation (n - 1) of Spearman's coefficient over the seeds; NaN for one.
    """

    correlations: Correlations
    behind: Correlations | None
    precision: float
    spread: float


@dataclass(frozen=True)
class Winner:
    """The cell that a search chose, on one data set.

    Attributes:
        search: name of the search, such as 'random search of 1,000 evaluations'.
        dataset: name of the data set, such as 'CIFAR-100'.
        key: key of the cell, see `PublishedAccuracies`.
        accuracy: published accuracy, as a fraction.
        rank: rank among all cells by that accuracy, from 1.
        best: highest published accuracy of all cells.
    """

    search: str
    dataset: str
    key: str
    accuracy: float
    rank: int
    best: float


@lru_cache(maxsize=1)
def _listed() -> dict[str, Any]:
    path = files("ghn_pipeline") / "report/extra/benchmark_methods.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def published(title: str) -> dict[str, float]:
    """Return Spearman's coefficients published by other authors, by method.

    Args:
        title: the title of the published accuracies that the methods were compared with.
    """
    rankings = _listed()["published"].get(title, {}).values()
    return {key: value for each in rankings for key, value in each["spearman"].items()}


def label(key: str, methods: Mapping[str, Method]) -> str:
    """Return a method's label, such as 'GHN, mean of 3 seeds'; 'sgd-k' may have any number k.

    Raises:
        KeyError: the method has no name, or the members of the ensemble are missing.
    """
    if key == ENSEMBLE:
        return f"{_name(GHN)}, ensemble of the {len(methods[GHN].predictions)}"
    seeds = len(methods[key].predictions) if key in methods else 1
    return f"{_name(key)}, mean of {seeds} seeds" if seeds > 1 else _name(key)


def measure(comparison: Comparison[str], top: float) -> dict[str, Found]:
    """Return how well each method ranks cells.

    Args:
        comparison: the methods by the keys of benchmark_methods.yaml. A key 'KEY/MEASURE' is of a
            method by another measure than the one that the scale ranks by.
        top: share of cells that count as best, see `top_precision`.
    """
    truth = comparison.truth
    return {
        key: Found(
            comparison.of(key),
            behind_ghn(comparison, key),
            float(np.mean([top_precision(x, truth, top) for x in method.predictions])),
            _deviation([coefficients(x, truth)["spearman"] for x in method.predictions]),
        )
        for key, method in comparison.methods.items()
    }


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def benchmark_table(
    methods: Mapping[str, Method],
    found: Mapping[str, Found],
    of: PublishedAccuracies,
    *,
    scale_note: str,
    cells: int,
    top: float,
    costs: bool,
    ranked_by: str,
    confidence: float,
    functions: int,
    settings_note: str,
) -> Table:
    """Return our methods beside published ones, in the order of benchmark_methods.yaml.

    Args:
        methods: the measured methods.
        found: their rankings, see `measure`.
        of: the published accuracies.
        scale_note: the scale in words, such as '16 x 16 images, 8 channels'.
        cells: n, the number of held-out cells.
        top: share of cells that count as best in the precision.
        costs: whether to print costs; without them the table is the same in every run.
        ranked_by: measure that judges generated and shared weights, for the footnote.
        confidence: level of the intervals.
        functions: number of different functions that the cells compute.
        settings_note: the footnote on the settings of the methods.
    """
    interval, others = f"[{confidence:.0%} interval]", published(of.title)
    headings = (
        "Method",
        "Given",
        "Labels",
        "Initial (device hours)",
        "Per architecture (device seconds)",
        f"Spearman {interval}",
        PUBLISHED,
        "Kendall",
        "Pearson",
        f"Spearman, better half {interval}",
        f"GHN's Spearman less this {interval}",
        f"the same, better half {interval}",
        f"Precision of the top {_percent(top)}",
    )
    rows = [
        (
            label(key, methods),
            *_given(methods.get(key)),
            *_costs(methods.get(key), costs),
            *_cells(found.get(key), others.get(key)),
        )
        for key in ordered({*others, *methods})
    ]
    shown = [i for i, heading in enumerate(headings) if others or heading != PUBLISHED]
    return Table(
        title=f"{title(of)} — {scale_note}: "
        f"ranking {cells:,} held-out cells by each method, against their published accuracies",
        columns=tuple(("", headings[i]) for i in shown),
        rows=tuple(tuple(row[i] for i in shown) for row in rows),
        footnotes=(
            *([_published_note(of)] if others else []),
            *([of.note] if of.note else []),
            _ours_note(cells, functions, top, ranked_by),
            settings_note,
            interval_note(confidence),
        ),
    )


def title(of: PublishedAccuracies) -> str:
    """Return the beginning of a title, such as "NAS-Bench-201, CIFAR-10"."""
    return f"{of.title}, {of.datasets[of.first]}"


def ordered(keys: Iterable[str]) -> list[str]:
    """Return keys in the order of benchmark_methods.yaml, SGD by its steps.

    Raises:
        ValueError: a method is missing there.
    """
    listed = list(_listed()["methods"])
    order = [*(key for key in PROXIES if key not in listed), *listed]
    return sorted(
        keys, key=lambda key: (order.index(_entry(key)), _steps(key), key.count("/") * -1)
    )


def _entry(key: str) -> str:
    """Return the entry of a key in benchmark_methods.yaml."""
    return "sgd-K" if key.startswith("sgd-") else key.partition("/")[0]


def _steps(key: str) -> int:
    return int(key.removeprefix("sgd-")) if key.startswith("sgd-") else 0


def _name(key: str) -> str:
    listed = _listed()["methods"]
    if key in PROXIES and key not in listed:
        return PROXIES[key].title
    name: str = listed[_entry(key)]
    if "/" in key:
        return f"{name}, by {key.partition('/')[2]}"
    return name.replace("K", str(_steps(key))) if key.startswith("sgd-") else name


def _costs(method: Method | None, costs: bool) -> tuple[str, str]:
    if method is None:
        return NONE, NONE
    if not costs:
        return NOT_TIMED, NOT_TIMED
    initial, each = method.initial_seconds, method.each_seconds
    return (
        NONE if initial is None else two_digits(initial / 3600),
        NONE if each is None else two_digits(each),
    )


def _cells(found: Found | None, others: float | None) -> tuple[str, ...]:
    """Return a row's cells after its costs; `found` is None if the method is only published."""
    if found is None:
        return NONE, printed(others, ".2f"), *[NONE] * 6
    return (
        _with_spread(found),
        printed(others, ".2f"),
        *(_value(found.correlations["all"][name]) for name in ("kendall", "pearson")),
        show(found.correlations["better_half"]["spearman"]),
        *(
            NONE if found.behind is None else show(found.behind[over]["spearman"], sign=True)
            for over in ("all", "better_half")
        ),
        f"{found.precision:.2f}",
    )


def _given(method: Method | None) -> tuple[str, str]:
    return (method.given, str(method.labels)) if method else (NONE, NONE)


def _with_spread(found: Found) -> str:
    """Return '0.87 ± 0.012 [0.85, 0.89]', or the form of `show` for one seed."""
    shown, spread = show(found.correlations["all"]["spearman"]), found.spread
    return shown if math.isnan(spread) else shown.replace(" [", f" ± {spread:.3f} [")


def _value(estimate: Estimate) -> str:
    return show(estimate).split(" [")[0]


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _published_note(of: PublishedAccuracies) -> str:
    listed = "; ".join(
        f"{each['source']} ({'; '.join(map(_name, each['spearman']))})"
        for each in _listed()["published"][of.title].values()
    )
    return (
        f"Published: over all {of.count:,} cells at the benchmark's own size, with other images "
        f"than here: not the same measurement as ours. By {listed}."
    )


def _ours_note(cells: int, functions: int, top: float, ranked_by: str) -> str:
    best = f"{_percent(top)} best"
    return (
        f"All others: over {cells:,} held-out cells, drawn at random, of {functions:,} functions; "
        "of those that compute the same one is scored for all, but by proxies. No cell that a GHN "
        "or the one-shot model was trained on, and none of the selection, computes the same as one "
        "of them. Unless said otherwise GHNs and the one-shot model rank by "
        f"{ranked_by}, SGD by accuracy. Initial: training of one seed or of all members of an "
        "ensemble. Better half: by published accuracy. Precision: how many of the "
        f"{best} by rank are of the {best} in truth, as a share; by chance {top:.2f}. Kendall: "
        f"tau-b. '{NONE}': no such number, nothing to train, or not timed apart."
    )


def winners_table(winners: Sequence[Winner], of: PublishedAccuracies, *, scale_note: str) -> Table:
    """Return the chosen cells, a row for each search and data set, in the given order."""
    headings = (
        "Search",
        "Data set",
        "Cell chosen",
        "Published accuracy (%)",
        f"Rank of {of.count:,}",
        "Best published accuracy (%)",
    )
    return Table(
        title=f"{of.title} — {scale_note}: the cell that each search chose, and what it is "
        "published to reach",
        columns=tuple(("", heading) for heading in headings),
        rows=tuple(
            (
                *(winner.search, winner.dataset, winner.key),
                *(f"{100 * winner.accuracy:.2f}", str(winner.rank), f"{100 * winner.best:.2f}"),
            )
            for winner in winners
        ),
        footnotes=(
            f"{of.key_note} The search ranks by weights from the first GHN.",
            *([of.note] if of.note else []),
        ),
    )


def summary(found: Mapping[str, Found]) -> str:
    """Return one line for each method, with its coefficients and intervals."""
    return "\n".join(_line(_name(key), one) for key, one in found.items())


def _line(name: str, one: Found) -> str:
    over_all, half = (one.correlations[over] for over in ("all", "better_half"))
    return (
        f"{name}: Spearman {_with_spread(one)}; Kendall {show(over_all['kendall'])}; Pearson "
        f"{show(over_all['pearson'])}; better half, Spearman {show(half['spearman'])}; precision "
        f"{one.precision:.2f}"
    )


def metrics(found: Mapping[str, Found]) -> dict[str, dict[str, float | None]]:
    """Return plain numbers for JSON, None if undefined, and for the GHN also intervals."""
    return {key: _numbers(one, certainty=key == GHN) for key, one in found.items()}


def _numbers(found: Found, *, certainty: bool) -> dict[str, float | None]:
    over_all = found.correlations["all"]
    numbers = {
        **{name: over_all[name].value for name in ("spearman", "kendall", "pearson")},
        "spearman_better_half": found.correlations["better_half"]["spearman"].value,
        "precision": found.precision,
    }
    if certainty:
        numbers |= {
            "spearman_low": over_all["spearman"].low,
            "spearman_high": over_all["spearman"].high,
            "spearman_sd": found.spread,
        }
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}
