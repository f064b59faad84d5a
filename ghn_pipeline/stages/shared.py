"""What stages share: how they are declared, and what several of them read or depend on.

Imports stand inside the functions of these modules, so that the command line and the engines read
all declarations without PyTorch.
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

#: The test architectures, without those that choices are made by.
DRAWN = "architectures: architectures.json run.json"
#: What every network depends on before a step of training.
INITIAL = ("images", "network", "seeds.split", "seeds.data_order", "seeds.initialisation")
#: What intervals depend on.
INTERVALS = ("correlation.resamples", "correlation.confidence", "seeds.bootstrap")
#: The forms of a table.
TABLE = (".csv", ".md", ".tex", ".html")


def bootstrap_of(config: "Config") -> "Bootstrap":
    """Return how the intervals of tables and figures are made."""
    from ghn_pipeline.report.correlations import Bootstrap

    chosen = config.correlation
    return Bootstrap(chosen.resamples, chosen.confidence, config.seeds.bootstrap)
