"""Names that the stages share: the decorator, and settings and files that several of them use.

Imports stand inside the functions of these modules, so that the command line and the engines read
all declarations without loading PyTorch.
"""

from typing import TYPE_CHECKING

from ghn_pipeline.pipeline.stage import CHOSEN_BY, FIRST_GHN, SCALE, Job, Shown, Work, stage

if TYPE_CHECKING:
    from ghn_pipeline.report.correlations import Bootstrap
    from ghn_pipeline.settings.config import Config

__all__ = [
    "CHOSEN_BY",
    "DRAWN",
    "FIRST_GHN",
    "INITIAL",
    "INTERVALS",
    "SCALE",
    "TABLE",
    "Job",
    "Shown",
    "Work",
    "bootstrap_of",
    "stage",
]

#: The test architectures without the selection.
DRAWN = "architectures: architectures.json run.json"
#: The settings that determine every network before its first step of training.
INITIAL = ("images", "network", "seeds.split", "seeds.data_order", "seeds.initialisation")
#: The settings that determine the intervals.
INTERVALS = ("correlation.resamples", "correlation.confidence", "seeds.bootstrap")
#: The file formats of a table.
TABLE = (".csv", ".md", ".tex", ".html")


def bootstrap_of(config: "Config") -> "Bootstrap":
    """Return the settings of the intervals in tables and figures."""
    from ghn_pipeline.report.correlations import Bootstrap

    chosen = config.correlation
    return Bootstrap(chosen.resamples, chosen.confidence, config.seeds.bootstrap)
