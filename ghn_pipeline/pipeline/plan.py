"""The plan of a scale: its jobs, and their measured, stated or guessed hours and disk."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ghn_pipeline.pipeline.costs import Costs, measured
from ghn_pipeline.pipeline.stage import Stage, filled, find, needed
from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import Compute


@dataclass(frozen=True, kw_only=True)
class Line(Costs):
    """One line of a plan, for jobs with equal costs.

    Attributes:
        command: the verb of `ghn`, with a word in capitals for the part that differs between jobs.
        jobs: the number of jobs.
        trains: whether a job that runs out of time continues in another job.
    """

    command: str
    jobs: int
    trains: bool

    @property
    def hours(self) -> float | None:
        """The hours of all accelerators of all jobs, None if there is no rate."""
        if self.rate is None or self.rate.seconds is None:
            return None
        return self.jobs * self.rate.seconds / 3600


def plan(config: Config) -> list[Line]:
    """Return the costs of each stage of the workflow, from the finished runs and Table 4.

    Finished stages are included. Parts that differ in cost have lines of their own.
    """
    lines: dict[str, tuple[Stage, str]] = {}
    costs: dict[str, Costs] = {}
    alike, jobs = defaultdict(list), Counter[str]()
    for name in _made(config):
        one, part = find(config, name)
        like = (one.like or one.name).replace("{part}", part)
        shown = name if "{part}" in one.like else one.name
        shown = "tables and figures" if one.is_table else shown.replace("/", " ", 1)
        if like not in costs:
            costs[like] = one.costs(config, part) if one.costs else Costs()
        alike[like].append(name)
        jobs[shown] += 1
        lines[shown] = one, like
    found = []
    for shown, (one, like) in lines.items():
        of, trains = costs[like], one.needs not in ("little", "scoring", "measuring")
        rate = None if one.needs == "little" else measured(config, alike[like]) or of.rate
        line = Line(of.disk, rate, of.accelerators, command=shown, jobs=jobs[shown], trains=trains)
        found.append(line)
    return found


def _made(config: Config) -> list[str]:
    """Return the stages of the space's chapters and their inputs; tables and figures come last."""
    there = sorted(needed(config.space.chapters), key=lambda one: one.is_table)
    named = [(one, one.names(config, made=True)) for one in there]
    asked = [name for one, names in named if one.chapters for name in names]
    made = set(asked)
    for name in asked:  # the list grows meanwhile
        one, part = find(config, name)
        read = {
            below
            for text, _ in one.inputs(config.space.chapters)
            for below in filled(config, text, part)
        }
        asked += read - made
        made |= read
    return [name for _, names in named for name in names if name in made]


# ---- as text -------------------------------------------------------------------------------------


def show(config: Config) -> str:
    """Return the plan as an aligned table, with totals and notes on what they leave out."""
    lines = plan(config)
    rated = [line for line in lines if line.rate]
    known = [line.hours for line in rated if line.hours is not None]
    hours = "hours of the device" if config.cpu_is_enough else "accelerator-hours"
    head = ("stage", "jobs", hours, "disk in MB", "one training", "where the rate is from")
    jobs, disk = sum(line.jobs for line in lines), sum(line.jobs * line.disk for line in lines)
    # a sum of 0 says nothing about the stages without a rate
    total = ("in all", str(jobs), _hours(sum(known) or None), _megabytes(disk), "", "")
    table = _aligned([head, *(_cells(line, config.compute) for line in lines), total])
    missing = len(rated) - len(known)
    without = f", but {missing} of {len(rated)} stages have no rate" if missing else ""
    return (
        f"{table}\n\nHours: of all runs, finished or not{without}. Stated: of the paper's GPUs.\n"
        "Disk: images, checkpoints, models and MLflow's copies; text and pictures are small."
    )


def _cells(line: Line, compute: Compute) -> tuple[str, ...]:
    hours = _hours(line.hours) if line.rate else "-"
    source = line.rate.source if line.rate else "-"
    disk = _megabytes(line.jobs * line.disk) if line.disk else "-"
    return line.command, str(line.jobs), hours, disk, _one_training(line, compute), source


def _one_training(line: Line, compute: Compute) -> str:
    if not line.trains or line.rate is None or not line.rate.seconds:
        return "-"
    seconds = line.rate.seconds / line.accelerators
    each = f"{_hours(seconds / 3600)} h"
    many = f" on {line.accelerators} at once" if line.accelerators > 1 else ""
    jobs = turns(seconds, compute)
    return f"{each}{many}: {jobs} job{'s' if jobs > 1 else ''} of {compute.minutes} min"


def turns(seconds: float, compute: Compute) -> int:
    """Return the number of successive jobs that a training of so many seconds takes."""
    # each job is told to save some time before its limit
    return max(1, math.ceil(seconds / (60 * compute.minutes - compute.stop_seconds)))


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    return "<0.01" if 0 < hours < 0.01 else f"{hours:.2f}"


def _megabytes(count: float) -> str:
    return "<0.1" if 0 < count < 1e5 else f"{count / 1e6:,.1f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<>>><<"
    return "\n".join(
        "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    )
