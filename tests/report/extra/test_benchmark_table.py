"""The table of a benchmark: each number against scipy, and what stands where there is none."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.data.darts_cells import OPERATIONS, SHA256, Row
from ghn_pipeline.data.darts_cells import Table as CellTable
from ghn_pipeline.ranking.intervals import Agreement
from ghn_pipeline.ranking.methods import Comparison, Method
from ghn_pipeline.report.correlations import show
from ghn_pipeline.report.extra.benchmark_table import (
    Found,
    Winner,
    benchmark_table,
    label,
    measure,
    metrics,
    published,
    summary,
    winners_table,
)
from ghn_pipeline.report.table import Table, to_csv, to_latex
from ghn_pipeline.spaces.darts import DartsAccuracies
from ghn_pipeline.spaces.nasbench201 import NasBench201Accuracies
from ghn_pipeline.system.errors import UserError

NONE = "\N{EN DASH}"
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(0.8, 0.1, 40)


def noisy(noise: float) -> np.ndarray:
    return TRUTH + RNG.normal(0, noise, 40)


SEEDS = [noisy(0.03), noisy(0.06), noisy(0.12)]
BY_ACCURACY = [noisy(0.05), noisy(0.08), noisy(0.15)]
METHODS = {
    "ghn": Method(SEEDS, 612.0, 0.0039, "100 steps", 300),
    "ghn/accuracy": Method(BY_ACCURACY, 612.0, 0.0039, "100 steps", 300),
    "ghn-ensemble": Method([np.mean(SEEDS, axis=0)], 1836.0, 0.012, "100 steps", 300),
    "oneshot": Method([noisy(0.1)], 500.0, 0.004, "as the GHN", 300),
    "oneshot/accuracy": Method([noisy(0.2)], 500.0, 0.004, "as the GHN", 300),
    "sgd-100": Method([noisy(0.1)], None, 8.96),
    "sgd-20": Method([noisy(0.2)], None, 1.8),
    "snip": Method([noisy(0.2)], None, 0.01),
    "vote": Method([noisy(0.1)], None, None),
    "parameters": Method([RNG.integers(100, 999, 40)], None, 0.00012),
}
HALF = np.argsort(-TRUTH)[:20]


def measured(methods: dict[str, Method] = METHODS, top: float = 0.1) -> dict[str, Found]:
    return measure(Comparison(methods, TRUTH, 0.95), top)


def mean_spearman(key: str, over: np.ndarray) -> float:
    found = [stats.spearmanr(x[over], TRUTH[over]).statistic for x in METHODS[key].predictions]
    return sum(found) / len(found)


def build(
    methods: dict[str, Method] = METHODS, *, costs: bool = True, top: float = 0.1, **more: Any
) -> Table:
    return benchmark_table(
        methods,
        more.pop("found", None) or measured(methods, top),
        more.pop("of", NasBench201Accuracies()),
        scale_note="1,000 images at 16×16",
        cells=40,
        top=top,
        costs=costs,
        ranked_by="likelihood",
        confidence=0.95,
        **{"functions": 30, "settings_note": "", **more},
    )


def cells(table: Table, method: str) -> dict[str, str]:
    (found,) = (row for row in table.rows if row[0] == method)
    return dict(zip([heading for _, heading in table.columns], found, strict=True))


def test_every_number_of_a_row_is_scipys():
    found, x = cells(build(), "snip"), METHODS["snip"].predictions[0]
    top = np.argsort(TRUTH)[20:]
    spearman, half = stats.spearmanr(x, TRUTH).statistic, stats.spearmanr(x[top], TRUTH[top])
    assert found["Spearman [95% interval]"].startswith(f"{spearman:.2f} [")
    assert found["Kendall"] == f"{stats.kendalltau(x, TRUTH).statistic:.2f}"
    assert found["Pearson"] == f"{stats.pearsonr(x, TRUTH).statistic:.2f}"
    assert found["Spearman, better half [95% interval]"].startswith(f"{half.statistic:.2f} [")
    both = {*np.argsort(-x)[:4]} & {*np.argsort(-TRUTH)[:4]}
    assert found["Precision of the top 10%"] == f"{len(both) / 4:.2f}"
    assert found["Spearman, published"] == "0.58"


def test_several_seeds_have_their_mean_and_standard_deviation():
    found = cells(build(top=0.25), "GHN, mean of 3 seeds")
    values = [stats.spearmanr(x, TRUTH).statistic for x in SEEDS]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    interval = Agreement({"ghn": SEEDS}, TRUTH).contrast({"ghn": 1}, 0.95)["spearman"]
    assert found["Spearman [95% interval]"] == (
        f"{mean:.2f} ± {deviation:.3f} [{interval.low:.2f}, {interval.high:.2f}]"
    )
    half = np.argsort(TRUTH)[20:]
    values = [stats.spearmanr(x[half], TRUTH[half]).statistic for x in SEEDS]
    better = found["Spearman, better half [95% interval]"]
    assert better.startswith(f"{sum(values) / 3:.2f} [")
    best = {*np.argsort(-TRUTH)[:10]}
    shares = [len(best & {*np.argsort(-x)[:10]}) / 10 for x in SEEDS]
    assert found["Precision of the top 25%"] == f"{sum(shares) / 3:.2f}"
    ensemble = cells(build(), "GHN, ensemble of the 3")["Spearman [95% interval]"]
    value = stats.spearmanr(sum(SEEDS), TRUTH).statistic
    assert ensemble.startswith(f"{value:.2f} [")


def test_the_difference_to_the_ghn_is_paired_and_by_the_same_measure():
    made, heading = build(), "GHN's Spearman less this [95% interval]"
    for name, key, ghn in (
        ("snip", "snip", "ghn"),
        ("One-shot model", "oneshot", "ghn"),
        ("One-shot model, by accuracy", "oneshot/accuracy", "ghn/accuracy"),
        ("GHN, ensemble of the 3", "ghn-ensemble", "ghn"),
    ):
        found = cells(made, name)
        for column, over in (
            (heading, np.arange(40)),
            ("the same, better half [95% interval]", HALF),
        ):
            value = mean_spearman(ghn, over) - mean_spearman(key, over)
            assert found[column].startswith(f"{value:+.2f} [")
        pair = Agreement({of: METHODS[of].predictions for of in (ghn, key)}, TRUTH)
        assert found[heading] == show(pair.contrast({ghn: 1, key: -1}, 0.95)["spearman"], sign=True)
    for name in ("GHN, mean of 3 seeds", "GHN, by accuracy, mean of 3 seeds"):
        assert cells(made, name)[heading] == NONE
    assert cells(build({"snip": METHODS["snip"]}), "snip")[heading] == NONE


def test_given_and_labels():
    found = {row[0]: row[1:3] for row in build().rows}
    assert found["GHN, mean of 3 seeds"] == ("100 steps", "300")
    assert found["One-shot model"] == ("as the GHN", "300")
    assert found["snip"] == ("", "0")
    assert found["AZ-NAS"] == (NONE, NONE)


def test_cells_of_few_functions_have_no_interval():
    groups = [str(i % 9) for i in range(40)]
    methods = {key: METHODS[key] for key in ("ghn", "snip")}
    found = measure(Comparison(methods, TRUTH, 0.95, groups), 0.1)
    few = cells(build(methods, found=found), "snip")
    whole = cells(build(methods), "snip")
    for column in ("Spearman [95% interval]", "GHN's Spearman less this [95% interval]"):
        assert few[column] == whole[column].split(" [")[0] + " [too few]"


def test_rows_are_in_order_with_what_is_only_published():
    assert [row[0] for row in build().rows] == [
        "Parameters",
        "fisher",
        "grasp",
        "snip",
        "grad_norm",
        "jacob_cov",
        "synflow",
        "Vote of synflow, jacob_cov, snip",
        "AZ-NAS",
        "SGD 20 steps",
        "SGD 100 steps",
        "One-shot model, by accuracy",
        "One-shot model",
        "GHN, by accuracy, mean of 3 seeds",
        "GHN, mean of 3 seeds",
        "GHN, ensemble of the 3",
    ]
    found = cells(build(costs=False), "AZ-NAS")
    assert found.pop("Spearman, published") == "0.91"
    assert set(found.values()) == {"AZ-NAS", NONE}


def test_what_is_published_typed_a_second_time():
    assert published("NAS-Bench-201") == {
        "synflow": 0.74,
        "jacob_cov": 0.73,
        "grad_norm": 0.58,
        "snip": 0.58,
        "grasp": 0.48,
        "fisher": 0.36,
        "vote": 0.82,
        "az-nas": 0.91,
    }
    note = build().footnotes[0]
    assert "15,625" in note
    assert "synflow; Vote of synflow, jacob_cov, snip); Lee and Ham" in note
    assert note.index("Abdelfattah") < note.index("fisher") < note.index("AZ-NAS:")


def test_costs_are_hours_and_seconds():
    initial, each = "Initial (device hours)", "Per architecture (device seconds)"
    shown = {row[0]: (row[3], row[4]) for row in build().rows}
    assert [heading for _, heading in build().columns[3:5]] == [initial, each]
    assert shown["GHN, mean of 3 seeds"] == ("0.17", "0.0039")
    assert shown["SGD 100 steps"] == (NONE, "9.0")
    assert shown["Parameters"] == (NONE, "0.00012")
    assert shown["Vote of synflow, jacob_cov, snip"] == (NONE, NONE)


def test_without_costs_equal_rankings_give_equal_bytes():
    slower = {
        key: replace(method, initial_seconds=7e5, each_seconds=8.0)
        for key, method in METHODS.items()
    }
    assert to_csv(build()) != to_csv(build(slower))
    assert to_csv(build(costs=False)) == to_csv(build(slower, costs=False))
    for method in ("Parameters", "GHN, mean of 3 seeds"):
        assert list(cells(build(costs=False), method).values())[3:5] == ["not timed"] * 2


def test_a_constant_ranking_is_undefined():
    constant = replace(METHODS["snip"], predictions=[np.full(40, 0.191589)])
    methods = {"snip": constant, "ghn": METHODS["ghn"]}
    found = cells(build(methods), "snip")
    assert found["Spearman [95% interval]"] == found["Kendall"] == found["Pearson"] == "undefined"
    assert found["GHN's Spearman less this [95% interval]"] == "undefined"
    numbers = metrics(measured(methods))["snip"]
    assert [key for key, value in numbers.items() if value is None] == [
        "spearman",
        "kendall",
        "pearson",
        "spearman_better_half",
    ]


def test_one_seed_of_the_ghn_is_no_mean():
    methods = {"ghn": Method(SEEDS[:1], 612.0, 0.0039)}
    assert label("ghn", methods) == "GHN"
    assert "±" not in cells(build(methods), "GHN")["Spearman [95% interval]"]


def test_a_method_of_other_cells_or_without_a_name_is_refused():
    with pytest.raises(UserError, match="39 predicted accuracies cannot be compared with 40"):
        build({"snip": Method([np.arange(39.0)], None, None)})
    with pytest.raises(ValueError, match="magic"):
        build({"magic": METHODS["snip"]})


def test_title_and_notes_say_what_it_is_of():
    table = build()
    assert table.title.startswith("NAS-Bench-201, CIFAR-10 — 1,000 images at 16×16: ")
    notes = " ".join(table.footnotes)
    for part in ("40 held-out cells", "No cell that a GHN", "95% interval", "by chance 0.10"):
        assert part in notes
    assert "of 30 functions" in notes
    assert "as of old" in " ".join(build(settings_note="as of old").footnotes)
    assert to_latex(table).isascii()  # print knows no other characters


def test_summary_has_a_line_a_method_with_the_tables_numbers():
    lines = summary(measured()).splitlines()
    assert [line.split(":")[0] for line in lines[:6]] == [
        "GHN",
        "GHN, by accuracy",
        "GHN ensemble",
        "One-shot model",
        "One-shot model, by accuracy",
        "SGD 100 steps",
    ]
    assert len(lines) == len(METHODS)
    assert cells(build(), "GHN, mean of 3 seeds")["Spearman [95% interval]"] in lines[0]


def test_metrics_are_numbers_for_json():
    found = measured()
    numbers = json.loads(json.dumps(metrics(found), allow_nan=False))
    assert numbers.keys() == METHODS.keys()
    x = METHODS["oneshot"].predictions[0]
    half = np.argsort(TRUTH)[20:]
    best = {*np.argsort(-x)[:4]} & {*np.argsort(-TRUTH)[:4]}
    assert numbers["oneshot"] == pytest.approx(
        {
            "spearman": stats.spearmanr(x, TRUTH).statistic,
            "kendall": stats.kendalltau(x, TRUTH).statistic,
            "pearson": stats.pearsonr(x, TRUTH).statistic,
            "spearman_better_half": stats.spearmanr(x[half], TRUTH[half]).statistic,
            "precision": len(best) / 4,
        }
    )
    values = [stats.spearmanr(x, TRUTH).statistic for x in SEEDS]
    assert numbers["ghn"]["spearman_sd"] == pytest.approx(stats.tstd(values))
    interval = Agreement({"ghn": SEEDS}, TRUTH).contrast({"ghn": 1}, 0.95)["spearman"]
    assert numbers["ghn"]["spearman_low"] == pytest.approx(interval.low)
    assert numbers["ghn"]["spearman_high"] == pytest.approx(interval.high)


def test_winners_are_in_percent_with_their_rank():
    search = "random search of 1,000 evaluations"
    table = winners_table(
        [
            Winner(search, "CIFAR-10", "333133", 0.91342, 12, 0.9161),
            Winner(search, "ImageNet-16-120", "333133", 0.4627, 3, 0.4673),
        ],
        NasBench201Accuracies(),
        scale_note="1,000 images at 16×16",
    )
    assert table.rows == (
        (search, "CIFAR-10", "333133", "91.34", "12", "91.61"),
        (search, "ImageNet-16-120", "333133", "46.27", "3", "46.73"),
    )
    assert table.columns[4] == ("", "Rank of 15,625")
    assert "1,000 images at 16×16" in table.title


# ---- a space of which only a table is published ------------------------------------------------

ROWS = tuple(Row((("none", 0), ("none", 1)) * 3 + (("none", 0), (op, 0)), 0.8) for op in OPERATIONS)


def test_a_table_of_other_cells_says_which_and_has_no_column_of_other_rankings():
    of = DartsAccuracies(CellTable(ROWS, "ab" * 32))
    made = build(of=of)
    assert made.title.startswith("DARTS cells, CIFAR-10 — ")
    headings = [heading for _, heading in made.columns]
    assert headings == [h for _, h in build().columns if h != "Spearman, published"]
    assert [row[0] for row in made.rows] == [r[0] for r in build().rows if r[0] in ranked(build())]
    for row in made.rows:
        assert cells(made, row[0]).items() <= cells(build(), row[0]).items()
    notes = " ".join(made.footnotes)
    assert f"8 rows, not the whole published table of 1,000, SHA-256 {'ab' * 32}" in notes
    assert "15,625" not in notes and "NAS-Bench" not in notes
    winners = winners_table([], of, scale_note="")
    assert winners.columns[4] == ("", "Rank of 8")
    assert of.note in winners.footnotes


def test_the_whole_table_is_said_to_be_whole():
    (note,) = (
        n for n in build(of=DartsAccuracies(CellTable(ROWS, SHA256))).footnotes if "SHA-256" in n
    )
    assert f"8 rows, SHA-256 {SHA256}" in note


def ranked(table: Table) -> set[str]:
    """The methods that have a ranking of ours."""
    return {row[0] for row in table.rows if cells(table, row[0])["Kendall"] != NONE}
