"""Tables 1 to 3 (section 5.1): the costs of a search, and the networks that it finds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from statistics import mean, stdev
from typing import Any

from ghn_pipeline.data.imagenet import ILSVRC
from ghn_pipeline.report.correlations import NONE, NOT_RUN, NOT_TIMED, paper_note, title, two_digits
from ghn_pipeline.report.paper import numbers
from ghn_pipeline.report.table import Table

PARTS = ("training", "evaluation", "short training")  # the parts of a cost
PARAMETERS = ("Parameters (millions)", "params")  # heading and key in numbers.yaml
TEST_ACCURACY = ("Test accuracy (%)", "accuracy")


@dataclass(frozen=True)
class Cost:
    """The cost of a search in days of the accelerator."""

    training: float  # training the GHN
    evaluation: float  # scoring all architectures with generated weights
    short_training: float = 0.0  # short trainings that choose the winner; no part of Table 1


@dataclass(frozen=True)
class Classifiers:
    """The measurements of the networks that one method found, on CIFAR-10.

    Attributes:
        cost: cost of the search; None if there was no search.
        parameters: number of parameters of each architecture.
        accuracies: accuracy of each network on the test images, as a fraction.
    """

    cost: Cost | None
    parameters: Sequence[int]
    accuracies: Sequence[float]


@dataclass(frozen=True)
class Accuracy:
    """Accuracies as fractions, and the images that they were measured on."""

    top1: float
    top5: float | None  # None: there are at most five classes
    classes: int
    training_images: int
    validation_images: int


@dataclass(frozen=True)
class Mobile:
    """The measurements of one network in the mobile setting (section 5.1.2)."""

    cost: Cost | None  # cost of the search on CIFAR-10
    parameters: int
    multiply_adds: int  # for one image
    accuracy: Accuracy | None  # None: no ImageNet folder was given


@dataclass(frozen=True)
class Setting:
    """The setting of this project's measurements.

    Attributes:
        scale: 'paper' for the paper's own scale; any other has `scale_note` in the title.
        scale_note: the scale in words, with the number of channels F.
        searched: number of architectures that the GHN scored.
        accelerator: the device of the costs in days.
        costs: whether to print our costs; without them the table is the same in every run.
    """

    scale: str
    scale_note: str
    searched: int
    accelerator: str
    costs: bool


def table1(rows: Mapping[str, Classifiers], setting: Setting) -> Table:
    """Return Table 1, ours beside the paper's: methods that employ a random search.

    Args:
        rows: our rows by the ids of Table 1 in numbers.yaml, 'random' and 'ghn-top'.
        setting: the setting of the measurements.

    Raises:
        ValueError: the paper has no such id.
    """
    parts = PARTS[:2]
    ours = {
        key: (_cost(row.cost, parts, setting.costs), _classifiers(row)) for key, row in rows.items()
    }
    notes = (
        "Random: drawn at random. GHN Top: the best of those searched, by their accuracy with "
        "generated weights.",
        _spread_note(),
    )
    return _table("table1", parts, (PARAMETERS, TEST_ACCURACY), ours, setting, notes)


def table2(rows: Mapping[str, Classifiers], setting: Setting, *, cutout: int) -> Table:
    """Return Table 2, ours beside the paper's: methods that employ advanced search.

    Args:
        rows: our rows by the ids of Table 2 in numbers.yaml, 'ghn-top-best'.
        setting: the setting of the measurements.
        cutout: side in pixels of the squares in our trainings; 0 for none.

    Raises:
        ValueError: the paper has no such id.
    """
    ours = {
        key: (_cost(row.cost, PARTS, setting.costs), _classifiers(row)) for key, row in rows.items()
    }
    square = f"with squares of {cutout}×{cutout} pixels" if cutout else "without it"
    notes = (
        _chosen_note(),
        f"CutOut: all of the paper's are trained with it, ours {square}.",
        _spread_note(),
    )
    return _table("table2", PARTS, (PARAMETERS, TEST_ACCURACY), ours, setting, notes)


def table3(rows: Mapping[str, Mobile], setting: Setting) -> Table:
    """Return Table 3, ours beside the paper's: networks for ImageNet in the mobile setting.

    Args:
        rows: our rows by the ids of Table 3 in numbers.yaml, 'ghn-top-best'.
        setting: the setting of the measurements.

    Raises:
        ValueError: the paper has no such id.
    """
    quantities = (
        PARAMETERS,
        ("Multiply-adds (millions)", "flops"),
        ("Top-1 accuracy (%)", "top1"),
        ("Top-5 accuracy (%)", "top5"),
    )
    ours = {key: (_cost(row.cost, PARTS, setting.costs), _mobile(row)) for key, row in rows.items()}
    notes = (
        f"{_chosen_note()} The search is that of Table 2, on CIFAR-10.",
        "Multiply-adds: of one image; the paper calls them FLOPs.",
        *(_accuracy_note(row.accuracy) for row in rows.values()),
    )
    return _table("table3", PARTS, quantities, ours, setting, notes)


def _table(
    name: str,
    parts: Sequence[str],
    quantities: Sequence[tuple[str, str]],
    ours: Mapping[str, tuple[list[str], list[str]]],
    setting: Setting,
    notes: tuple[str, ...],
) -> Table:
    """Return a table of the paper with our cells beside its own.

    Args:
        name: name of the table in numbers.yaml.
        parts: the parts of the cost; their sum follows them.
        quantities: a heading and a key in numbers.yaml for each.
        ours: for each row, the cells of the cost and those of the quantities.
        setting: the setting of the measurements.
        notes: further footnotes.
    """
    paper = numbers.table(name)
    if unknown := ours.keys() - paper["rows"].keys():
        raise ValueError(f"{paper['place']} of the paper has no rows {sorted(unknown)}")
    absent = ([NOT_RUN] * (len(parts) + 1), [NOT_RUN] * len(quantities))
    keys = [key for _, key in quantities]
    cost = "Search cost (accelerator days)"
    called = name.replace("table", "Table ")
    return Table(
        title=title(called, setting.scale, setting.scale_note, paper["caption"]),
        columns=(
            ("", "Method"),
            *((cost, f"ours, {part}") for part in (*parts, "sum")),
            (cost, "paper"),
            *((heading, whose) for heading, _ in quantities for whose in ("ours", "paper")),
        ),
        rows=tuple(_cells(row, keys, *ours.get(key, absent)) for key, row in paper["rows"].items()),
        footnotes=(
            paper_note(f"{paper['place']}, search cost in days of its own GPUs, the sum alone"),
            _ours_note(setting, parts),
            *notes,
        ),
    )


def _cells(
    paper: Mapping[str, Any], keys: Sequence[str], spent: list[str], measured: list[str]
) -> tuple[str, ...]:
    pairs = ((cell, _paper(paper, key)) for cell, key in zip(measured, keys, strict=True))
    cost = _paper(paper, "search_cost")
    return (paper["method"], *spent, cost, *(cell for pair in pairs for cell in pair))


def _cost(cost: Cost | None, parts: Sequence[str], costs: bool) -> list[str]:
    """Return the cells of these parts of `cost`, and of their sum."""
    if cost is None:
        return [NONE] * (len(parts) + 1)
    if not costs:
        return [NOT_TIMED] * (len(parts) + 1)
    days = astuple(cost)[: len(parts)]
    return [two_digits(value) for value in (*days, sum(days))]


def _paper(row: Mapping[str, Any], key: str) -> str:
    if row[key] is None:
        return NONE
    spread = row.get(f"{key}_sd")
    return f"{row[key]}" if spread is None else f"{row[key]} ± {spread}"


def _classifiers(row: Classifiers) -> list[str]:
    millions = [count / 1e6 for count in row.parameters]
    return [
        _spread(millions, _decimals(mean(millions))),
        _spread([100 * accuracy for accuracy in row.accuracies], 2),
    ]


def _mobile(row: Mobile) -> list[str]:
    counts = (row.parameters / 1e6, row.multiply_adds / 1e6)
    return [*(f"{count:.{_decimals(count)}f}" for count in counts), *_accuracies(row.accuracy)]


def _accuracies(accuracy: Accuracy | None) -> list[str]:
    """Return the cells of top-1 and top-5, with a note if the images are not ImageNet's."""
    if accuracy is None:
        return ["ImageNet not given"] * 2
    counts = (accuracy.classes, accuracy.validation_images)
    other = f" ({counts[0]:,} classes, {counts[1]:,} images, not ImageNet)"
    of = "" if counts == ILSVRC else other
    found = (accuracy.top1, accuracy.top5)
    return [NONE if value is None else f"{100 * value:.2f}{of}" for value in found]


def _spread(values: Sequence[float], decimals: int) -> str:
    """Return '95.70 ± 0.10 (n=10)', the mean and the sample standard deviation."""
    n = len(values)
    spread = f" ± {stdev(values):.{decimals}f}" if n > 1 else ""
    return f"{mean(values):.{decimals}f}{spread} (n={n})"


def _decimals(value: float) -> int:
    """Return the number of decimals that shows three digits of a value."""
    return max(0, 2 - math.floor(math.log10(value)))


def _ours_note(setting: Setting, parts: Sequence[str]) -> str:
    short = "; short training: of the best by score" if "short training" in parts else ""
    cost = (
        f"days of {setting.accelerator}; training: of the GHN; evaluation: of all architectures "
        f"searched, with generated weights{short}"
    )
    return (
        f"Ours: {setting.scale_note}; {setting.searched:,} architectures searched. 'F=32' and '1K' "
        f"in a name are the paper's. Our search cost: {cost if setting.costs else NOT_TIMED}."
    )


def _spread_note() -> str:
    return (
        "Test accuracy: on the official test images, the mean ± the sample standard deviation of "
        "n networks. Parameters: the same of n architectures."
    )


def _chosen_note() -> str:
    return (
        "GHN Top-Best: of those that the GHN ranks highest, the one that is best after a short "
        "training."
    )


def _accuracy_note(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "'ImageNet not given': without a folder of its images there is nothing to train on."
    return (
        f"Our accuracies: of {accuracy.classes:,} classes, trained on {accuracy.training_images:,} "
        f"images, measured on {accuracy.validation_images:,} validation images."
    )
