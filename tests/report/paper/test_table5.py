"""Table 5: the paper's three ways to stack GHNs, and one more, with ours beside."""

import numpy as np
from scipy import stats

from ghn_pipeline.ranking.methods import Comparison, Method
from ghn_pipeline.report.paper.numbers import table
from ghn_pipeline.report.paper.table5 import Stacking, table5
from ghn_pipeline.report.table import Table, to_latex

NONE = "\N{EN DASH}"
INDIVIDUAL, STACKED, SHARED, ODD = (False, False), (False, True), (True, True), (True, False)
LEAD = "Pearson R less that of the row before"
RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(0.5, 0.8, 24)
ALL, HALF = np.arange(24), np.argsort(-TRUTH)[:12]
#: Predictions of two seeds, by row and measure.
PREDICTIONS = {
    (key, by): [TRUTH + RNG.normal(0, noise, 24) for _ in range(2)]
    for key, noise in ((INDIVIDUAL, 0.2), (STACKED, 0.1), (SHARED, 0.05), (ODD, 0.1))
    for by in ("accuracy", "likelihood")
}
#: How much the weights of consecutive blocks differ.
DIFFERENCES = {INDIVIDUAL: 1.402, STACKED: 0.0094, SHARED: None, ODD: 0.5}
COMPARISON = Comparison({key: Method(x, None, None) for key, x in PREDICTIONS.items()}, TRUTH, 0.9)


def build(*keys: tuple[bool, bool], measures: tuple[str, ...] = ("accuracy",)) -> Table:
    """Table 5 of these rows, each held against the one before it."""
    found = {
        key: Stacking(
            {by: COMPARISON.of((key, by)) for by in measures},
            {by: COMPARISON.contrast({(key, by): 1, (before, by): -1}) for by in measures}
            if before
            else {},
            2,
            DIFFERENCES[key],
        )
        for key, before in zip(keys, (None, *keys), strict=False)
    }
    return table5(found, scale="quick", scale_note="quick preset", architectures=24, confidence=0.9)


def column(made: Table, group: str, heading: str) -> list[str]:
    at = made.columns.index((group, heading))
    return [row[at] for row in made.rows]


def r(key: tuple[bool, bool], over: np.ndarray, coefficient: object = stats.pearsonr) -> float:
    """The mean over seeds of one of scipy's coefficients."""
    found = [coefficient(x[over], TRUTH[over]).statistic for x in PREDICTIONS[key, "accuracy"]]
    return sum(found) / 2


def test_rows_are_the_papers_with_its_figures():
    paper = list(table("table5")["rows"].values())
    made = build(INDIVIDUAL, SHARED)
    word = {True: "yes", False: "no"}
    assert column(made, "", "SP") == [word[row["shared_parameters"]] for row in paper]
    assert column(made, "", "PE") == [word[row["passing_embeddings"]] for row in paper]
    random, top = "paper, Random-100", "paper, Top-50"
    assert [float(x) for x in column(made, "Pearson R", random)] == [r["random"] for r in paper]
    assert [float(x) for x in column(made, "Pearson R", top)] == [r["top"] for r in paper]


def test_ours_stand_beside_and_a_row_that_was_not_run_says_so():
    made = build(INDIVIDUAL, SHARED)
    for group, coefficient in (
        ("Pearson R", stats.pearsonr),
        ("Spearman", stats.spearmanr),
        ("Kendall", stats.kendalltau),
    ):
        for heading, over in (("Random-24", ALL), ("Top-12", HALF)):
            first, second, third = column(made, group, f"{heading} [90% interval]")
            assert second == "not run"
            assert first.startswith(f"{r(INDIVIDUAL, over, coefficient):.2f} [")
            assert third.startswith(f"{r(SHARED, over, coefficient):.2f} [")
    assert [row.count("not run") for row in made.rows] == [0, 12, 0]


def test_each_row_is_held_against_the_row_before():
    made = build(INDIVIDUAL, STACKED, SHARED)
    for heading, over in (("Random-24", ALL), ("Top-12", HALF)):
        first, second, third = column(made, LEAD, heading)
        assert first == NONE
        assert second.startswith(f"{r(STACKED, over) - r(INDIVIDUAL, over):+.2f} [")
        assert third.startswith(f"{r(SHARED, over) - r(STACKED, over):+.2f} [")
        _, rank, _ = column(made, LEAD.replace("Pearson R", "Spearman"), heading)
        expected = r(STACKED, over, stats.spearmanr) - r(INDIVIDUAL, over, stats.spearmanr)
        assert rank.startswith(f"{expected:+.2f} [")


def test_each_row_says_how_many_seeds_and_how_much_the_blocks_differ():
    made = build(INDIVIDUAL, STACKED, SHARED)
    assert column(made, "", "Seeds") == ["2"] * 3
    found = column(made, "", "Weights of consecutive blocks differ by")
    assert found == ["140.2%", "0.9%", NONE]


def test_rows_by_accuracy_and_by_likelihood_stand_side_by_side():
    made = build(INDIVIDUAL, STACKED, measures=("accuracy", "likelihood"))
    assert column(made, "", "Method") == [
        "Individual GHNs",
        "Individual GHNs, by likelihood",
        "Stacked GHN",
        "Stacked GHN, by likelihood",
        "Stacked GHN, shared parameters",
    ]
    # the paper's figures are by accuracy
    assert column(made, "Pearson R", "paper, Top-50") == ["0.15", NONE, "0.37", NONE, "0.48"]
    ahead = COMPARISON.contrast({(STACKED, "likelihood"): 1, (INDIVIDUAL, "likelihood"): -1})
    value = ahead["all"]["pearson"].value
    assert column(made, LEAD, "Random-24")[3].startswith(f"{value:+.2f} [")


def test_a_row_that_the_paper_has_not_stands_last():
    made = build(INDIVIDUAL, SHARED, ODD)
    assert made.rows[-1][1:3] == ("yes", "no")
    assert column(made, "Pearson R", "paper, Random-100")[-1] == NONE
    assert column(made, "Pearson R", "paper, Top-50")[-1] == NONE
    assert len({row[0] for row in made.rows}) == len(made.rows) == 4


def test_the_title_and_the_marks_in_latex():
    made = build(INDIVIDUAL)
    assert made.title.startswith("Table 5 \N{EM DASH} quick preset, not the paper's scale.")
    assert "& no & yes &" in to_latex(made)
