"""Table 5: the paper's three ways to stack GHNs, and one more, with ours beside."""

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.report.correlations import Bootstrap, measure
from ghn_pipeline.report.paper.numbers import table
from ghn_pipeline.report.paper.table5 import table5
from ghn_pipeline.report.table import Table, to_latex
from ghn_pipeline.system.errors import UserError

BOOTSTRAP = Bootstrap(resamples=100, confidence=0.9, seed=0)
NONE = "\N{EN DASH}"
INDIVIDUAL, STACKED, SHARED, ODD = (False, False), (False, True), (True, True), (True, False)


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0.5, 0.8, 12)
    return truth + generator.normal(0, 0.1, 12), truth


PAIRS = {SHARED: pair(0), INDIVIDUAL: pair(1)}


def build(pairs: dict[tuple[bool, bool], tuple[np.ndarray, np.ndarray]] = PAIRS) -> Table:
    found = measure(pairs, of="Table 5", architectures=12, bootstrap=BOOTSTRAP)
    return table5(
        found, scale="quick", scale_note="quick preset", architectures=12, bootstrap=BOOTSTRAP
    )


def column(made: Table, group: str, heading: str) -> list[str]:
    at = made.columns.index((group, heading))
    return [row[at] for row in made.rows]


def test_rows_are_the_papers_with_its_figures():
    paper = list(table("table5")["rows"].values())
    made = build()
    word = {True: "yes", False: "no"}
    assert column(made, "", "SP") == [word[row["shared_parameters"]] for row in paper]
    assert column(made, "", "PE") == [word[row["passing_embeddings"]] for row in paper]
    random, top = "paper, Random-100", "paper, Top-50"
    assert [float(x) for x in column(made, "Pearson R", random)] == [r["random"] for r in paper]
    assert [float(x) for x in column(made, "Pearson R", top)] == [r["top"] for r in paper]


def test_ours_stand_beside_and_say_what_was_not_run():
    made = build()
    for group, coefficient in (
        ("Pearson R", stats.pearsonr),
        ("Spearman", stats.spearmanr),
        ("Kendall", stats.kendalltau),
    ):
        for heading, count in (("Random-12 [90% interval]", 12), ("Top-6 [90% interval]", 6)):
            cells = column(made, group, heading)
            assert cells[1] == "not run"
            for cell, key in ((cells[0], INDIVIDUAL), (cells[2], SHARED)):
                x, y = PAIRS[key]
                best = np.argsort(y)[-count:]
                assert cell.startswith(f"{coefficient(x[best], y[best]).statistic:.2f} [")


def test_a_row_that_the_paper_has_not_stands_last():
    made = build({**PAIRS, ODD: pair(2)})
    assert made.rows[-1][1:3] == ("yes", "no")
    assert column(made, "Pearson R", "paper, Random-100")[-1] == NONE
    assert column(made, "Pearson R", "paper, Top-50")[-1] == NONE
    assert len({row[0] for row in made.rows}) == len(made.rows) == 4


def test_the_title_and_the_marks_in_latex():
    made = build()
    assert made.title.startswith("Table 5 \N{EM DASH} quick preset, not the paper's scale.")
    assert "& no & yes &" in to_latex(made)


def test_other_architectures_are_refused():
    x, y = PAIRS[SHARED]
    with pytest.raises(UserError, match="of Table 5 was measured on 11"):
        build({SHARED: (x[1:], y[1:])})
