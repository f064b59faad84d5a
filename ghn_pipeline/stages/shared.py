"""Names that the stages share: the decorator, and settings and files that several of them use.

Imports stand inside the functions of these modules, so that the command line and the engines read
all declarations without loading PyTorch.
"""

from ghn_pipeline.pipeline.stage import CHOSEN_BY, FIRST_GHN, SCALE, Job, Shown, Work, stage

__all__ = [
    "CHOSEN_BY",
    "DRAWN",
    "FINDINGS",
    "FIRST_GHN",
    "INITIAL",
    "INTERVALS",
    "SCALE",
    "TABLE",
    "Job",
    "Shown",
    "Work",
    "stage",
]

#: The test architectures without the selection.
DRAWN = "architectures: architectures.json run.json"
#: The tables and figures that leave findings for the page of claims.
FINDINGS = tuple(
    f"{table}: {table}.findings.json"
    for table in ("table4", "ablations", "top", "memory", "anytime_curves", "benchmark")
)
#: The settings that determine every network before its first step of training.
INITIAL = ("images", "network", "seeds.split", "seeds.data_order", "seeds.initialisation")
#: The settings that determine the intervals.
INTERVALS = ("correlation.confidence",)
#: The file formats of a table.
TABLE = (".csv", ".md", ".tex", ".html")
