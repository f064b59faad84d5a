"""The table of the search's best: means and deviations by hand, and the differences below."""

from statistics import mean, stdev

import numpy as np

from ghn_pipeline.report.extra.top_table import top_table
from ghn_pipeline.report.paper.claims import Finding
from ghn_pipeline.report.table import Table, to_latex

GROUPS = {
    "GHN Top, 3 of 1,000 searched": (
        np.array([0.951, 0.957, 0.954]),
        np.array([5_100_000, 4_500_000, 5_700_000]),
    ),
    "Random": (
        np.array([0.946, 0.932, 0.95, 0.941]),
        np.array([4_600_000, 900_000, 2_000_000, 12_300_000]),
    ),
}


def finding(by: str, value: float, low: float = np.nan, high: float = np.nan) -> Finding:
    return Finding(14, value, low, high, "quick", "a truth", by=by)


FOUND = [finding("3 of 1,000, by likelihood", 1.175, 0.2, 2.15), finding("by size", -0.4)]


def build(groups: dict[str, tuple[np.ndarray, np.ndarray]] = GROUPS, scale: str = "quick") -> Table:
    return top_table(groups, FOUND, scale=scale, scale_note="quick preset (16×16 images)")


def test_each_group_has_its_number_accuracy_and_parameters():
    made = build()
    assert [row[0] for row in made.rows] == list(GROUPS)
    for row, (accuracies, parameters) in zip(made.rows, GROUPS.values(), strict=True):
        percent, millions = [100 * x for x in accuracies], [x / 1e6 for x in parameters]
        assert row[1] == str(len(percent))
        assert row[2] == f"{mean(percent):.2f} ± {stdev(percent):.2f}"
        assert row[3] == f"{mean(millions):.3g} ± {stdev(millions):.2g}"


def test_the_differences_stand_below():
    assert build().footnotes == (
        "±: standard deviation over architectures.",
        "Difference, 3 of 1,000, by likelihood: 1.175 [0.2, 2.15] points (Welch).",
        "Difference, by size: -0.4 points (Welch).",
    )


def test_one_architecture_has_no_deviation():
    one = {"GHN Top": (np.array([0.95]), np.array([5_100_000]))}
    assert build(one).rows == (("GHN Top", "1", "95.00", "5.1"),)


def test_the_title_says_when_the_scale_is_not_the_papers():
    start = "The search's best \N{EM DASH} quick preset (16×16 images)"
    assert build().title.startswith(f"{start}, not the paper's scale. ")
    assert build(scale="paper").title.startswith(f"{start}. ")
    assert to_latex(build()).isascii()
