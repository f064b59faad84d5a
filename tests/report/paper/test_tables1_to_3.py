"""Tables 1 to 3: the paper's rows as it prints them, ours beside, nothing claimed that is not."""

import dataclasses

import numpy as np
import pytest

from ghn_pipeline.report.paper.numbers import table
from ghn_pipeline.report.paper.tables1_to_3 import (
    Accuracy,
    Classifiers,
    Cost,
    Mobile,
    Setting,
    table1,
    table2,
    table3,
)
from ghn_pipeline.report.table import Table, to_csv, to_html, to_latex, to_markdown

NONE = "\N{EN DASH}"
COST = "Search cost (accelerator days)"
PARAMETERS, ACCURACY = "Parameters (millions)", "Test accuracy (%)"
SETTING = Setting("quick", "quick preset, F=8", searched=200, accelerator="one H200", costs=True)
SPENT = Cost(training=0.25, evaluation=0.01, short_training=0.5)
WHOLE_COST = {"training": 0.25, "evaluation": 0.01, "short training": 0.5, "sum": 0.76}
ACCURACIES = [0.951, 0.958, 0.962]
PARAMETER_COUNTS = [4_600_000, 5_200_000, 5_900_000]
TOP = {
    "ghn-top": Classifiers(SPENT, PARAMETER_COUNTS, ACCURACIES),
    "random": Classifiers(None, [21_300], [0.6]),
}
BEST = {"ghn-top-best": Classifiers(SPENT, [5_712_345], ACCURACIES)}
IMAGENET = Accuracy(0.73, 0.913, classes=1000, training_images=1_281_167, validation_images=50_000)


def mobile(accuracy: Accuracy | None = IMAGENET) -> dict[str, Mobile]:
    return {"ghn-top-best": Mobile(SPENT, 6_123_456, 569_400_000, accuracy)}


def make(number: int, empty: bool = False, **changes: object) -> Table:
    setting = dataclasses.replace(SETTING, **changes)
    if number == 1:
        return table1({} if empty else TOP, setting)
    if number == 2:
        return table2({} if empty else BEST, setting, cutout=8)
    return table3({} if empty else mobile(), setting)


def rows(made: Table) -> dict[str, dict[str, str]]:
    """The cells by method and 'group|heading'."""
    headings = ["|".join(column) for column in made.columns]
    return {row[0]: dict(zip(headings, row, strict=True)) for row in made.rows}


QUANTITIES = {
    **{number: {PARAMETERS: "params", ACCURACY: "accuracy"} for number in (1, 2)},
    3: {
        PARAMETERS: "params",
        "Multiply-adds (millions)": "flops",
        "Top-1 accuracy (%)": "top1",
        "Top-5 accuracy (%)": "top5",
    },
}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_all_rows_and_numbers_of_the_paper_in_its_order(number):
    found, paper = rows(make(number)), table(f"table{number}")["rows"]
    assert list(found) == [row["method"] for row in paper.values()]
    for row in paper.values():
        cells = found[row["method"]]
        for group, key in {COST: "search_cost", **QUANTITIES[number]}.items():
            value, *spread = cells[f"{group}|paper"].split(" ± ")
            assert value == NONE if row[key] is None else float(value) == row[key]
            assert [float(text) for text in spread] == [
                sd for sd in [row.get(f"{key}_sd")] if sd is not None
            ]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_was_not_run_says_so(number):
    for cells in rows(make(number, empty=True)).values():
        ours = {text for heading, text in cells.items() if "ours" in heading}
        assert ours == {"not run"}


def test_means_and_sample_standard_deviations_with_n():
    found = rows(make(1))["GHN Top (F=32)"]
    percent, millions = 100 * np.array(ACCURACIES), np.array(PARAMETER_COUNTS) / 1e6
    expected = f"{percent.mean():.2f} ± {percent.std(ddof=1):.2f} (n=3)"
    assert found[f"{ACCURACY}|ours"] == expected
    expected = f"{millions.mean():.2f} ± {millions.std(ddof=1):.2f} (n=3)"
    assert found[f"{PARAMETERS}|ours"] == expected


def test_one_network_has_no_spread_and_a_small_one_still_three_digits():
    found = rows(make(1))["Random (F=32)"]
    assert found[f"{ACCURACY}|ours"] == "60.00 (n=1)"
    assert found[f"{PARAMETERS}|ours"] == "0.0213 (n=1)"


@pytest.mark.parametrize(
    ("number", "method", "expected"),
    [
        (1, "GHN Top (F=32)", {"training": 0.25, "evaluation": 0.01, "sum": 0.26}),
        (2, "GHN Top-Best, 1K (F=32)", WHOLE_COST),
        (3, "GHN Top-Best, 1K", WHOLE_COST),
    ],
)
def test_the_parts_of_the_cost_and_their_sum(number, method, expected):
    found = rows(make(number))[method]
    start = f"{COST}|ours, "
    ours = {key.removeprefix(start): cell for key, cell in found.items() if key.startswith(start)}
    assert {part: float(cell) for part, cell in ours.items()} == expected


def test_a_method_without_search_has_no_cost():
    found = rows(make(1))["Random (F=32)"]
    assert {found[heading] for heading in found if heading.startswith(COST)} == {NONE}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_without_costs_the_bytes_do_not_depend_on_speed_or_machine(number):
    made = make(number, costs=False)
    (ours,) = [row for row in made.rows if "not timed" in row]
    assert ours.count("not timed") == (3 if number == 1 else 4)
    other = make(number, costs=False, accelerator="an old one")
    for render in (to_csv, to_markdown, to_html, to_latex):
        assert render(made) == render(other)
    assert "one H200" in to_markdown(make(number))


def test_other_images_than_imagenet_are_never_taken_for_it():
    few = dataclasses.replace(IMAGENET, top5=None, classes=3, validation_images=12)
    found = rows(table3(mobile(few), SETTING))["GHN Top-Best, 1K"]
    assert found["Top-1 accuracy (%)|ours"] == "73.00 (3 classes, 12 images, not ImageNet)"
    assert found["Top-5 accuracy (%)|ours"] == NONE
    fewer = dataclasses.replace(IMAGENET, validation_images=1000)
    found = rows(table3(mobile(fewer), SETTING))["GHN Top-Best, 1K"]
    for top in (1, 5):
        assert found[f"Top-{top} accuracy (%)|ours"].endswith("images, not ImageNet)")


def test_imagenet_itself():
    made = make(3)
    found = rows(made)["GHN Top-Best, 1K"]
    assert found["Top-1 accuracy (%)|ours"] == "73.00"
    assert found["Top-5 accuracy (%)|ours"] == "91.30"
    assert found[f"{PARAMETERS}|ours"] == "6.12"
    assert found["Multiply-adds (millions)|ours"] == "569"
    notes = " ".join(made.footnotes)
    for said in ("1,000 classes", "1,281,167 images", "50,000 validation images"):
        assert said in notes


def test_imagenet_that_was_not_given():
    found = rows(table3(mobile(None), SETTING))["GHN Top-Best, 1K"]
    assert {found[f"Top-{k} accuracy (%)|ours"] for k in (1, 5)} == {"ImageNet not given"}
    assert found[f"{PARAMETERS}|ours"] == "6.12"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_title_and_footnotes_say_what_ours_are(number):
    made = make(number)
    start = f"Table {number} \N{EM DASH} quick preset, F=8, not the paper's scale."
    assert made.title.startswith(start)
    assert "not the paper's" not in make(number, scale="paper").title
    notes = " ".join(made.footnotes)
    for said in (table(f"table{number}")["place"], "200 architectures", "F=8", "one H200"):
        assert said in notes


def test_cutout_is_said_in_table_2_as_it_was():
    assert "8×8 pixels" in " ".join(make(2).footnotes)
    assert "ours without it" in " ".join(table2(BEST, SETTING, cutout=0).footnotes)


def test_a_row_that_the_paper_has_not_is_refused():
    with pytest.raises(ValueError, match=r"Table 1.*ghn-top-best"):
        table1(BEST, SETTING)
