"""The tables of areas under the curves of Figures 3 and 4 (5.2), of groups and of each method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ghn_pipeline.ranking.correlation import Estimate, Floats
from ghn_pipeline.ranking.intervals import Agreement, difference_of_means, mean_of
from ghn_pipeline.report.correlations import NONE, NOT_RUN, show, title
from ghn_pipeline.report.paper.curves import GROUPS, METHODS, Curve, budget_range, millions
from ghn_pipeline.report.table import Table
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import area

COEFFICIENTS = ("pearson", "spearman", "kendall")
BOTH = "both"
FEWEST = 3  # networks in a correlation


@dataclass(frozen=True)
class Group:
    """The trained networks of a group.

    Attributes:
        curves: the curve of each network, measured on the test images.
        predicted: the areas [n] with generated weights, as fractions.
    """

    curves: Sequence[Curve]
    predicted: Sequence[float]


@dataclass(frozen=True)
class Method:
    """One trained network."""

    curve: Curve
    parameters: int


@dataclass(frozen=True)
class Area:
    """The areas of a group's networks, as fractions.

    Attributes:
        networks: number of networks.
        mean: the mean with its interval, whose ends are NaN for one network.
        deviation: the standard deviation (n - 1), NaN for one network.
    """

    networks: int
    mean: Estimate
    deviation: float


@dataclass(frozen=True)
class Found:
    """How good the groups' networks are, and how well their areas were predicted.

    Attributes:
        areas: the areas by the keys of `GROUPS`.
        difference: the mean of the first group less that of the second; None without both.
        correlations: correlations of predicted with trained areas, in each group and over 'both',
            except for fewer than 3 networks.
    """

    areas: dict[str, Area]
    difference: Estimate | None
    correlations: dict[str, Mapping[str, Estimate]]


def measure(
    groups: Mapping[str, Group], *, budgets: tuple[float, float], confidence: float
) -> Found:
    """Return the areas of groups, and how well they were predicted.

    Args:
        groups: the groups by the keys of `GROUPS`.
        budgets: the range of the areas, in multiply-adds.
        confidence: level of the intervals over the networks.

    Raises:
        UserError: the numbers of predictions and of networks differ, or `Agreement` raises it.
        ValueError: a group has no networks, or is not one of `GROUPS`.
    """
    if not groups.keys() <= GROUPS.keys() or not all(group.curves for group in groups.values()):
        raise ValueError(f"networks are in the groups {', '.join(GROUPS)}: not {list(groups)}")
    trained = {key: _areas(groups[key].curves, budgets) for key in GROUPS if key in groups}
    both = [trained[key] for key in GROUPS] if trained.keys() == GROUPS.keys() else []
    return Found(
        areas={key: _area(areas, confidence) for key, areas in trained.items()},
        difference=difference_of_means(both[0], both[1], confidence) if both else None,
        correlations=_correlations(groups, trained, confidence),
    )


def groups_table(
    found: Found,
    *,
    scale: str,
    scale_note: str,
    budgets: tuple[float, float],
    confidence: float,
) -> Table:
    """Return a row for each group, their difference, and both: areas and correlations.

    Args:
        found: the measurements.
        scale: 'paper' for the paper's own scale; any other puts `scale_note` into the title.
        scale_note: the scale in words.
        budgets: the range of the areas, in multiply-adds.
        confidence: level of the intervals.
    """
    interval = f"[{confidence:.0%} interval]"
    correlation = "Predicted with trained area"
    return Table(
        title=title("Anytime prediction", scale, scale_note, "The search's best and random ones"),
        columns=(
            *(("", "Networks"), ("", "Number")),
            ("", f"Area (%), mean ± deviation {interval}"),
            *((correlation, f"{name.capitalize()} {interval}") for name in COEFFICIENTS),
        ),
        rows=(
            *((GROUPS[key], *_area_cells(found, key)) for key in GROUPS),
            ("Difference of the means", NONE, _difference_cell(found), *[NONE] * 3),
            ("Both", *_both_cells(found)),
        ),
        footnotes=(
            area_note(budgets),
            "Predicted: on validation images, with generated weights. Trained: on the test images, "
            "after training. Both: networks of both groups as one. Within the search's best the "
            "correlation is over networks chosen for their prediction, over both some are, over "
            "random ones none is. Kendall: tau-b. Figure 4 shows as many random ones as top ones.",
            f"In brackets: {confidence:.0%} interval over the networks, of means by Student's t. "
            f"±: standard deviation of the networks. '{NOT_RUN}': this run does not have it. "
            f"'{NONE}': no such number, or fewer than {FEWEST} networks. 'too few': too few for an "
            "interval that covers. 'undefined': an area is the same for all networks.",
        ),
    )


def methods_table(methods: Mapping[str, Method], *, scale: str, scale_note: str) -> Table:
    """Return a row for each single network, with its accuracies and costs.

    Args:
        methods: the methods by the keys of `METHODS`.
        scale: 'paper' for the paper's own scale; any other puts `scale_note` into the title.
        scale_note: the scale in words.

    Raises:
        ValueError: a method is not one of `METHODS`.
    """
    if unknown := methods.keys() - METHODS.keys():
        raise ValueError(f"methods without a name: {sorted(unknown)}")
    budgets = shared_budgets([method.curve for method in methods.values()])
    caption = "The best network found and its rivals, each trained once"
    cost = "Multiply-adds (millions)"
    return Table(
        title=title("Anytime prediction", scale, scale_note, caption),
        columns=(
            *(("", "Method"), ("", "Exits"), ("", "Area (%)"), ("", "Accuracy, last exit (%)")),
            *((cost, "first exit"), (cost, "last exit"), ("", "Parameters (millions)")),
        ),
        rows=tuple(
            (name, *_method_cells(methods.get(key), budgets)) for key, name in METHODS.items()
        ),
        footnotes=(
            (
                area_note(budgets) + " It is the range in which all of these predict. "
                "Figure 3 joins exits by lines; between two a network has what the earlier gave."
            )
            if budgets
            else f"No area ('{NONE}'): there is no budget at which all of these predict.",
            f"{METHODS['ghn']}: the best of the search's best by validation area, trained anew "
            "with the most channels whose last exit takes no more than that of the first rival. "
            "Accuracies: on the test images. Multiply-adds: of one image, up to the exit. Rivals: "
            f"Huang et al. (2018). '{NOT_RUN}': this run does not have it.",
        ),
    )


def shared_budgets(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Return the range from the latest first exit to the earliest last exit, None if empty."""
    low, high = max(c.spent[0] for c in curves), min(c.spent[-1] for c in curves)
    return (low, high) if low < high else None


def metrics(found: Found) -> dict[str, dict[str, float | None]]:
    """Return plain numbers for JSON, None if one is undefined."""
    numbers = {
        key: {"area": a.mean.value, "area_sd": a.deviation} for key, a in found.areas.items()
    }
    if d := found.difference:
        numbers["difference"] = {"area": d.value, "area_low": d.low, "area_high": d.high}
    for key, estimates in found.correlations.items():
        values = {name: estimate.value for name, estimate in estimates.items()}
        numbers.setdefault(key, {}).update(values)
    return {
        key: {name: None if math.isnan(value) else value for name, value in of.items()}
        for key, of in numbers.items()
    }


def area_note(budgets: tuple[float, float]) -> str:
    """Return the footnote that defines an area."""
    return (
        f"Area: the mean, over budgets of {budget_range(budgets)} an image, of the accuracy of "
        "the last exit that the budget reaches, 0 before the first."
    )


def _areas(curves: Sequence[Curve], budgets: tuple[float, float]) -> Floats:
    return np.array([area(curve.spent, curve.accuracies, *budgets) for curve in curves])


def _area(areas: Floats, confidence: float) -> Area:
    deviation = float(np.std(areas, ddof=1)) if len(areas) > 1 else math.nan
    return Area(len(areas), mean_of(areas, confidence), deviation)


def _correlations(
    groups: Mapping[str, Group], trained: Mapping[str, Floats], confidence: float
) -> dict[str, Mapping[str, Estimate]]:
    for key, areas in trained.items():
        if len(groups[key].predicted) != len(areas):
            raise UserError(
                f"{len(groups[key].predicted)} predicted areas for {len(areas)} networks of "
                f"{GROUPS[key]}. Make both again."
            )
    pairs = {key: (np.array(groups[key].predicted), areas) for key, areas in trained.items()}
    if trained.keys() == GROUPS.keys():
        predicted, areas = (np.concatenate(of) for of in zip(*pairs.values(), strict=True))
        pairs[BOTH] = predicted, areas
    return {
        key: Agreement({key: [x]}, y).contrast({key: 1}, confidence)
        for key, (x, y) in pairs.items()
        if len(y) >= FEWEST
    }


def _area_cells(found: Found, key: str) -> tuple[str, ...]:
    """Return a group's cells: the number of networks, their area, its correlations."""
    if key not in found.areas:
        return (NOT_RUN,) * (2 + len(COEFFICIENTS))
    one = found.areas[key]
    # a group with a deviation has an interval
    shown = _percent(one.mean).replace(" [", f" ± {100 * one.deviation:.2f} [")
    return str(one.networks), shown, *_correlation_cells(found, key)


def _both_cells(found: Found) -> tuple[str, ...]:
    if found.difference is None:
        return (NOT_RUN, NONE, *[NOT_RUN] * len(COEFFICIENTS))
    number = sum(one.networks for one in found.areas.values())
    return str(number), NONE, *_correlation_cells(found, BOTH)


def _correlation_cells(found: Found, key: str) -> tuple[str, ...]:
    if key not in found.correlations:
        return (NONE,) * len(COEFFICIENTS)
    return tuple(show(found.correlations[key][name]) for name in COEFFICIENTS)


def _difference_cell(found: Found) -> str:
    return NOT_RUN if found.difference is None else _percent(found.difference)


def _percent(estimate: Estimate) -> str:
    """Return '81.23 [80.11, 82.05]', or '81.23' without an interval."""
    value, *ends = (f"{100 * x:.2f}" for x in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{', '.join(ends)}]"


def _method_cells(method: Method | None, budgets: tuple[float, float] | None) -> tuple[str, ...]:
    if method is None:
        return (NOT_RUN,) * 6
    curve = method.curve
    return (
        str(len(curve.spent)),
        f"{100 * area(curve.spent, curve.accuracies, *budgets):.2f}" if budgets else NONE,
        f"{100 * curve.accuracies[-1]:.2f}",
        *(millions(spent) for spent in (curve.spent[0], curve.spent[-1])),
        millions(method.parameters),
    )
