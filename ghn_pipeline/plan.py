"""What a scale takes: jobs, hours of the accelerator, disk; counted, measured or stated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import Any

from ghn_pipeline import record
from ghn_pipeline.artifacts import maker_of, space_of, untrained
from ghn_pipeline.config import Compute, Config
from ghn_pipeline.data.cifar10 import BATCH_RECORDS, BATCHES, RECORD_BYTES
from ghn_pipeline.errors import UserError
from ghn_pipeline.files import digest
from ghn_pipeline.network import Network
from ghn_pipeline.paper import numbers

FLOAT = 4  # bytes of a number in model.pt and in checkpoints
ADAM = 2  # copies of the weights in its state: both moments
SAMPLES = 100  # architectures whose mean size is taken

#: Digests of every `shape` of params.yaml as shipped: of no other does Table 4 state costs.
STATED_FOR = {
    "1d07645b8479c8e1",  # ghn
    "97adc4828ef5f496",  # oneshot
    "5c4ade5563b801f7",  # sgd, finalists
    "4058a25e57f62cf3",  # scores/ghn
    "404781079306d736",  # scores/oneshot
}
#: Settings that change no cost.
FREE = {"learning_rate", "halve_at", "clip"}


@dataclass(frozen=True)
class Rate:
    """Accelerator-seconds of one job, None where they are not known, and who says so."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Line:
    """One stage of a plan.

    Attributes:
        command: that makes it, with what differs between its jobs in capitals.
        jobs: how many.
        disk: bytes of all jobs; 0 for nothing but text and pictures.
        rate: of one job; None for a stage that needs no accelerator.
        accelerators: of one job.
        trains: whether a job that is out of time goes on in a next one.
    """

    command: str
    jobs: int = 1
    disk: float = 0
    rate: Rate | None = None
    accelerators: int = 1
    trains: bool = False

    @property
    def hours(self) -> float | None:
        """Hours of all accelerators of all jobs, None where there is no rate."""
        if self.rate is None or self.rate.seconds is None:
            return None
        return self.jobs * self.rate.seconds / 3600


def plan(config: Config) -> list[Line]:
    """Return what each stage takes, finished or not, by the finished runs and by Table 4.

    What has its own settings has its own line: each GHN, and each model that scores.
    """
    size = _mean_size(config)
    models = [*(f"ghn/{name}" for name in config.correlation.ghns), "oneshot"]
    return [
        Line("prepare-data", disk=len(BATCHES) * BATCH_RECORDS * RECORD_BYTES),
        Line("sample"),
        *(_search(config, model) for model in models),
        _sgd(config, size),
        *(Line(f"score {model}", rate=rate(config, [f"scores/{model}"])) for model in models),
        Line("table4"),
        _finalists(config, size),
    ]


def _search(config: Config, stage: str) -> Line:
    model = untrained(config, stage)
    trained = sum(p.numel() for p in model.parameters())
    held = sum(t.numel() for t in model.state_dict().values())
    command = maker_of(stage).removeprefix("ghn ")
    disk = _bytes(trained, held, ADAM, publishes=True)
    return Line(command, disk=disk, rate=rate(config, [stage]), trains=True)


def _sgd(config: Config, size: tuple[float, float]) -> Line:
    stages = [f"sgd/{index}" for index in config.correlation.architectures]
    disk = len(stages) * _bytes(*size, _copies(config.sgd.momentum), publishes=False)
    return Line("train-sgd INDEX", len(stages), disk, rate(config, stages), trains=True)


def _finalists(config: Config, size: tuple[float, float]) -> Line:
    settings = config.finalists
    stages = [f"finalists/{rank}" for rank in settings.ranks]
    disk = len(stages) * _bytes(*size, _copies(settings.momentum), publishes=True)
    found = rate(config, stages)
    return Line("train-finalist RANK", len(stages), disk, found, settings.workers, trains=True)


# ---- disk ----------------------------------------------------------------------------------------


def _bytes(trained: float, held: float, copies: int, *, publishes: bool) -> float:
    """Bytes that a training leaves behind.

    Args:
        trained: numbers that the optimizer changes.
        held: numbers in the state of the model, so those and the statistics of batch norm.
        copies: of what is trained, in the optimizer's state.
        publishes: whether there is a model.pt, of which MLflow keeps a copy.
    """
    return FLOAT * (held + copies * trained + (2 * held if publishes else 0))


def _copies(momentum: float) -> int:
    return 1 if momentum else 0


def _mean_size(config: Config) -> tuple[float, float]:
    """Mean numbers of random architectures: trained by SGD, and held in the model's state."""
    space, rng = space_of(config), Random(config.seeds.test_architectures)
    blocks = [space.sample(rng, config.space.nodes) for _ in range(SAMPLES)]
    networks = [Network(space.modules(block), config.images.resolution) for block in blocks]
    trained = mean(network.parameters for network in networks)
    return trained, trained + 2 * mean(sum(network.norms.values()) for network in networks)


# ---- rates ---------------------------------------------------------------------------------------


def rate(config: Config, stages: Sequence[str]) -> Rate:
    """Return the mean accelerator-seconds of one of `stages`, measured, else as the paper states.

    Args:
        config: of the scale.
        stages: of the same settings, so that what one took another will take.
    """
    found = [s for stage in stages if (s := _measured(config, stage)) is not None]
    if found:
        return Rate(mean(found), f"measured, {len(found)} of {len(stages)} runs")
    if digest(shape(config, stages[0])) in STATED_FOR:
        return _stated(config, stages[0])
    return Rate(None, "no rate: none finished with these settings, which are not Table 4's")


def _measured(config: Config, stage: str) -> float | None:
    try:
        return float(record.read(config, stage, maker_of(stage))["accelerator_seconds"])
    except UserError:  # missing, stale or not whole
        return None


def shape(config: Config, stage: str) -> dict[str, Any]:
    """Return the settings that must be the paper's for Table 4 to state what `stage` costs."""
    kind, _, name = stage.partition("/")
    stack = {key: getattr(config, key).model_dump() for key in ("space", "network")}
    stack["resolution"] = config.images.resolution
    if kind == "scores":
        return {**shape(config, name), "evaluation": config.evaluation.model_dump()}
    if kind in ("sgd", "finalists"):  # stated for a step, so whatever their number
        batch = config.sgd.batch if kind == "sgd" else config.finalists.batch
        return {**stack, "batch": batch}
    schedule = config.oneshot if kind == "oneshot" else config.named_ghn(name)
    return {**stack, "train": config.images.train, kind: schedule.model_dump(exclude=FREE)}


def _stated(config: Config, stage: str) -> Rate:
    kind, _, name = stage.partition("/")
    rows = numbers.table("table4")["rows"]
    if kind in ("ghn", "oneshot"):
        hours = rows[kind]["initial"]
        return Rate(3600 * hours, f"stated: Table 4's {hours} h")
    if kind == "scores":
        each = rows[name.partition("/")[0]]["per_architecture"]
        said = f"stated: Table 4's {each} s an architecture, of how many images is not said"
        return Rate(len(config.correlation.architectures) * each, said)
    each, steps, workers = _sgd_step(), _steps(config, kind), 1
    said = f"stated: {steps:,} steps at Table 4's {each:g} s"
    if kind == "finalists":
        workers = config.finalists.workers
        said += "; larger networks, drop-path, exchange not counted"
    return Rate(steps * each * workers, said)


def _sgd_step() -> float:
    """Seconds of a step in the row of the most steps, which is the least rounded."""
    rows = numbers.table("table4")["rows"]
    most = max(int(key.removeprefix("sgd-")) for key in rows if key.startswith("sgd-"))
    return float(rows[f"sgd-{most}"]["per_architecture"]) / most


def _steps(config: Config, kind: str) -> int:
    if kind == "sgd":
        return config.sgd.epochs * (config.images.train // config.sgd.batch)
    settings = config.finalists
    return settings.epochs * (config.images.train // (settings.batch * settings.workers))


# ---- as text -------------------------------------------------------------------------------------


def show(config: Config) -> str:
    """Return the plan as an aligned table, its totals below, and what they leave out."""
    lines = plan(config)
    rated = [line for line in lines if line.rate]
    known = [line.hours for line in rated if line.hours is not None]
    hours = "hours of the device" if config.cpu_is_enough else "accelerator-hours"
    head = ("stage", "jobs", hours, "disk in MB", "one training", "where the rate is from")
    jobs, disk = str(sum(line.jobs for line in lines)), _megabytes(sum(li.disk for li in lines))
    total = ("in all", jobs, _hours(sum(known) if known else None), disk, "", "")
    table = _aligned([head, *(_cells(line, config.compute) for line in lines), total])
    missing = len(rated) - len(known)
    without = (
        f" {missing} of {len(rated)} stages have no rate and are not in it." if missing else ""
    )
    return (
        f"{table}\n\nHours: of all runs, finished or not.{without}\n"
        "Disk: images, checkpoints, model.pt and MLflow's copy of it; text and pictures are small."
    )


def _cells(line: Line, compute: Compute) -> tuple[str, ...]:
    hours = _hours(line.hours) if line.rate else "-"
    source = line.rate.source if line.rate else "-"
    disk = _megabytes(line.disk) if line.disk else "-"
    return line.command, str(line.jobs), hours, disk, _one_training(line, compute), source


def _one_training(line: Line, compute: Compute) -> str:
    if not line.trains or line.rate is None or line.rate.seconds is None:
        return "-"
    seconds = line.rate.seconds / line.accelerators
    each = f"{_hours(seconds / 3600)} h"
    many = f" on {line.accelerators} at once" if line.accelerators > 1 else ""
    jobs = turns(seconds, compute)
    return f"{each}{many}: {jobs} job{'s' if jobs > 1 else ''} of {compute.minutes} min"


def turns(seconds: float, compute: Compute) -> int:
    """Return how many jobs, one after another, a training of so many seconds takes."""
    # each is told to save and make way ahead of its end
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
