"""What verbs of `ghn` share. Imports stand inside the functions, so that help answers at once."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ghn_pipeline.report.correlations import Bootstrap
    from ghn_pipeline.settings.config import Config


def configuration(args: argparse.Namespace) -> "Config":
    """Read the configuration.

    Raises:
        UserError: with every fault of it.
    """
    from ghn_pipeline.settings.config import load

    return load([Path(file) for file in args.config])


def start(args: argparse.Namespace, stage: str) -> "Config":
    """Read the configuration; what is printed from here on stands in the stage's log as well.

    Raises:
        UserError: a fault of the configuration, no such stage in the space, or a log that cannot
            be written.
    """
    from ghn_pipeline.pipeline.stages import log_file
    from ghn_pipeline.system import logs

    config = configuration(args)
    logs.keep(log_file(config, stage))
    return config


def bootstrap_of(config: "Config") -> "Bootstrap":
    """Return how the intervals of tables and figures are made."""
    from ghn_pipeline.report.correlations import Bootstrap

    chosen = config.correlation
    return Bootstrap(chosen.resamples, chosen.confidence, config.seeds.bootstrap)
