"""What a scale takes: jobs, hours of the accelerator, disk; counted, measured, stated, guessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import Any

import torch

from ghn_pipeline.data.cifar10 import BATCH_RECORDS, BATCHES, RECORD_BYTES
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.pipeline import record
from ghn_pipeline.pipeline.build import comparable, rival, untrained
from ghn_pipeline.pipeline.results import UNTRAINED, chooser, first_ghn
from ghn_pipeline.pipeline.spaces import anytime_space, mobile_space, space_of
from ghn_pipeline.pipeline.stage import CHAPTERS_OF, command, declared
from ghn_pipeline.report import numbers
from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import Anytime, Compute, Recipe, Sgd
from ghn_pipeline.space.fitting import S, fitted
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest
from ghn_pipeline.training.auxiliary import AuxiliaryHead

FLOAT = 4  # bytes of a number in model.pt and in checkpoints
ADAM = 2  # copies of the weights in its state: both moments
SAMPLES = 100  # architectures whose mean size is taken

#: Digests of every `shape` of params.yaml as shipped: of no other does Table 4 state costs.
STATED_FOR = {
    "b954ff23b694e8e6",  # ghn
    "8a61f328404675cf",  # oneshot
    "ed49a26455556c18",  # sgd, short, finalists
    "a99f535e24885a51",  # scores/ghn, search
    "20bd1cd726ebd1f9",  # scores/oneshot
}
#: Settings that change no cost.
FREE = {
    "learning_rate",
    "halve_at",
    "clip",
    "seed",
    "average",
    "warmup",
    "positions",
}
#: Of a GHN, what its cost may differ by and still be guessed from another's; two are counted in.
ABLATED = {"nodes", "epochs", "passes", "scheme", "share_parameters", "pass_embeddings"}
GUESS = "guess: as the first GHN, in proportion to nodes and epochs alone"
NO_RATE = "no rate: none has finished, and Table 4 has none for these settings"


@dataclass(frozen=True)
class Rate:
    """Accelerator-seconds of one job, None where they are not known, and who says so."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Line:
    """One stage of a plan.

    Attributes:
        command: of `ghn` that makes it, what differs between its jobs in capitals.
        jobs: how many.
        disk: bytes of one job; 0 for nothing but text and pictures.
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

    Each GHN has a line of its own, for they differ in cost. The stages are those that the workflow
    runs: what is held against published accuracies where these are, the chapter of networks with
    exits where these are searched, else those of the paper's tables.
    """
    of_space = {"classification": _paper, "nasbench201": _published, "anytime": _with_exits}
    return of_space[config.space.name](config)


def _published(config: Config) -> list[Line]:
    return [
        *_scoring(config, ("oneshot", *UNTRAINED)),
        Line("search METHOD/SEED", rate=rate(config, [chooser(config)])),
        Line("tables and figures"),
    ]


def _with_exits(config: Config) -> list[Line]:
    networks = _networks(config)
    ranks = {"top": config.anytime.top, "random": config.anytime.random}
    stages = [f"anytime/{group}/{rank}" for group, of in ranks.items() for rank in of]
    return [
        _images(),
        Line("architectures"),
        _weigher(config, first_ghn(config)),
        Line("scores ghn/NAME", rate=rate(config, [f"scores/{first_ghn(config)}"])),
        Line("search random/SEED", rate=rate(config, [chooser(config)])),
        *(
            _trained_with_exits(config, f"{group}/RANK", _mean_size(networks), stages, len(of))
            for group, of in ranks.items()
        ),
        _trained_with_exits(config, "best", _size_of_best(config), ["anytime/best"]),
        *(
            _trained_with_exits(config, name, _size_of_rival(config, name), [f"anytime/{name}"])
            for name in config.anytime.rivals
        ),
        Line("tables and figures"),
    ]


def _trained_with_exits(
    config: Config, which: str, size: tuple[float, float], stages: Sequence[str], jobs: int = 1
) -> Line:
    disk = _bytes(*size, _copies(config.anytime), publishes=True)
    return Line(f"anytime {which}", jobs, disk, rate(config, stages), trains=True)


def _images() -> Line:
    return Line("data", disk=len(BATCHES) * BATCH_RECORDS * RECORD_BYTES)


def _scoring(config: Config, rivals: Sequence[str]) -> list[Line]:
    """The images, what is trained to score architectures, and the scores."""
    ghns = [f"ghn/{name}" for name in config.correlation.ghns]
    scored = [f"scores/{ghn}" for ghn in ghns]
    return [
        _images(),
        Line("architectures"),
        *(_weigher(config, model) for model in (*ghns, "oneshot")),
        Line("scores ghn/NAME", len(scored), rate=rate(config, scored)),
        *(Line(f"scores {rival}", rate=rate(config, [f"scores/{rival}"])) for rival in rivals),
    ]


def _paper(config: Config) -> list[Line]:
    networks = _networks(config)
    truth, short = _by_sgd(config, networks)
    searches = [n for s in declared() if s.kind == "search" for n in s.names(config)]
    return [
        *_scoring(config, ("oneshot", "proxies")),
        truth,
        Line("search METHOD/SEED", len(searches), rate=rate(config, searches)),
        short,
        Line("winner"),
        *_finalists(config, networks),
        # two files, of which MLflow keeps a copy
        Line("export", disk=2 * 2 * FLOAT * _mean_size(networks)[1]),
        _mobile(config),
        Line("memory", rate=rate(config, ["memory"])),
        Line("tables and figures", _tables(config)),
    ]


def _tables(config: Config) -> int:
    """How many stages the space has that only show what others have made."""
    chapters = CHAPTERS_OF[config.space.name]
    return sum(s.is_table and not set(chapters).isdisjoint(s.chapters) for s in declared())


def _weigher(config: Config, stage: str) -> Line:
    model = untrained(config, stage)
    trained = sum(p.numel() for p in model.parameters())
    held = sum(t.numel() for t in model.state_dict().values())
    kind, _, name = stage.partition("/")
    running_mean = kind == "ghn" and config.ghns[name].average > 0
    disk = _bytes(trained, held, ADAM + running_mean, publishes=True)
    made_by = command(stage).removeprefix("ghn ")
    return Line(made_by, disk=disk, rate=rate(config, [stage]), trains=True)


def _by_sgd(config: Config, networks: Sequence[Network]) -> list[Line]:
    """Ground truth and short trainings: by the same recipe, so what one took others will take."""
    truth = [f"sgd/{index}" for index in config.correlation.architectures]
    short = [f"short/{rank}" for rank in config.finalists.ranks]
    disk = _bytes(*_mean_size(networks), _copies(config.sgd), publishes=False)
    found = rate(config, [*truth, *short])
    return [
        Line("sgd INDEX", len(truth), disk, found, trains=True),
        Line("short RANK", len(short), disk, found, trains=True),
    ]


def _finalists(config: Config, networks: Sequence[Network]) -> list[Line]:
    recipe = config.finalists
    groups = {"top/RANK": recipe.ranks, "random/RANK": recipe.ranks, "best/SEED": recipe.seeds}
    stages = [f"finalists/{g.partition('/')[0]}/{i}" for g, each in groups.items() for i in each]
    disk, found = _recipe_bytes(recipe, networks), rate(config, stages)
    return [
        Line(f"finalists {group}", len(each), disk, found, recipe.processes, trains=True)
        for group, each in groups.items()
    ]


def _mobile(config: Config) -> Line:
    recipe = config.mobile
    if not recipe.folder:
        return Line("mobile", rate=Rate(0, "counts only: mobile.folder names no ImageNet"))
    space, side = mobile_space(config, None), recipe.resolution
    limit = recipe.multiply_adds * 1_000_000
    networks = _fitted(config, space, side, limit, "mobile.multiply_adds")
    disk, found = _recipe_bytes(recipe, networks), rate(config, ["mobile"])
    return Line("mobile", 1, disk, found, recipe.processes, trains=True)


# ---- disk ----------------------------------------------------------------------------------------


def _bytes(trained: float, held: float, copies: int, *, publishes: bool) -> float:
    """Bytes that a training leaves behind.

    Args:
        trained: numbers that the optimizer changes.
        held: numbers in the state of the model, so those and the statistics of batch norm.
        copies: of what is trained, in the optimizer's state and as a running mean.
        publishes: whether there is a model.pt, of which MLflow keeps a copy.
    """
    return FLOAT * (held + copies * trained + (2 * held if publishes else 0))


def _recipe_bytes(recipe: Recipe, networks: Sequence[Network]) -> float:
    trained, held = _mean_size(networks)
    head = mean(_head(network, recipe) for network in networks)
    return _bytes(trained + head, held + head, _copies(recipe), publishes=True)


def _head(network: Network, recipe: Recipe) -> int:
    """Numbers of the auxiliary head."""
    if not recipe.auxiliary_weight:
        return 0
    with torch.device("meta"):  # counted, not made
        head = AuxiliaryHead(network, recipe.auxiliary_channels)
    return sum(p.numel() for p in head.parameters())


def _copies(recipe: Sgd | Recipe | Anytime) -> int:
    return 1 if recipe.momentum else 0


def _drawn(config: Config) -> list[Block]:
    """Draw random architectures: those that will be trained are as large in the mean."""
    rng = Random(config.seeds.test_architectures)
    return [space_of(config).sample(rng, config.space.nodes) for _ in range(SAMPLES)]


def _networks(config: Config) -> list[Network]:
    """Networks of random architectures."""
    space, side = space_of(config), config.images.resolution
    return [Network(space.modules(block), side) for block in _drawn(config)]


def _fitted(config: Config, space: S, side: int, limit: int, of: str) -> list[Network]:
    """Likewise, each as wide as a limit allows: see `fitted`."""
    return [
        Network(fitted(space, block, side, limit, of).modules(block), side)
        for block in _drawn(config)
    ]


def _mean_size(networks: Sequence[Network]) -> tuple[float, float]:
    """Mean numbers of networks: trained by SGD, and held in the model's state."""
    trained = mean(network.parameters for network in networks)
    return trained, trained + 2 * mean(sum(network.norms.values()) for network in networks)


def _size_of_best(config: Config) -> tuple[float, float]:
    """Mean numbers of networks with exits that are as wide as the best may be."""
    space, side, limit = anytime_space(config), config.images.resolution, comparable(config)
    return _mean_size(_fitted(config, space, side, limit, "what the first of anytime.rivals takes"))


def _size_of_rival(config: Config, name: str) -> tuple[float, float]:
    with torch.device("meta"):  # counted, not made
        model = rival(config, name)
    return (
        sum(p.numel() for p in model.parameters()),
        sum(t.numel() for t in model.state_dict().values()),
    )


# ---- rates ---------------------------------------------------------------------------------------


def rate(config: Config, stages: Sequence[str]) -> Rate:
    """Return the mean accelerator-seconds of one of `stages`: measured, stated or guessed.

    Args:
        config: of the scale.
        stages: that do the same, so that what one took another will take.
    """
    found = [s for stage in stages if (s := _measured(config, stage)) is not None]
    if found:
        return Rate(mean(found), f"measured, {len(found)} of {len(stages)} runs")
    if digest(shape(config, stages[0])) in STATED_FOR:
        return _stated(config, stages[0])
    seconds = _as_the_first(config, stages[0])
    return Rate(seconds, NO_RATE if seconds is None else GUESS)


def _measured(config: Config, stage: str) -> float | None:
    try:
        return float(record.read(config, stage)["accelerator_seconds"])
    except UserError:  # missing, stale or not whole
        return None


def _as_the_first(config: Config, stage: str) -> float | None:
    """Guess what a GHN takes that differs from the first in no more than `ABLATED`."""
    kind, _, name = stage.partition("/")
    first = first_ghn(config)
    if kind != "ghn" or stage == first:
        return None
    one, like = config.ghns[name], config.ghns[first.removeprefix("ghn/")]
    other = FREE | ABLATED
    seconds = rate(config, [first]).seconds
    if seconds is None or one.model_dump(exclude=other) != like.model_dump(exclude=other):
        return None
    return seconds * one.nodes / like.nodes * one.epochs / like.epochs


def shape(config: Config, stage: str) -> dict[str, Any]:
    """Return the settings that must be the paper's for Table 4 to state what `stage` costs."""
    kind, _, name = stage.partition("/")
    if name in UNTRAINED:
        return {"stage": stage}
    stack = {key: getattr(config, key).model_dump() for key in ("space", "network")}
    stack["resolution"] = config.images.resolution
    if kind in ("ghn", "oneshot"):
        schedule = config.oneshot if kind == "oneshot" else config.ghns[name]
        return {**stack, "train": config.images.train, kind: schedule.model_dump(exclude=FREE)}
    if kind in ("scores", "search"):
        weights = shape(config, _weights(config, stage))
        return {**weights, "evaluation": config.evaluation.model_dump()}
    # stated for a batch, so whatever their number
    batch = {
        "sgd": config.sgd.batch,
        "short": config.sgd.batch,
        "finalists": config.finalists.norm_batch,
    }
    return {**stack, "batch": batch[kind]} if kind in batch else {"stage": stage}


def _weights(config: Config, stage: str) -> str:
    """The stage that makes what `stage` scores with."""
    kind, _, name = stage.partition("/")
    return name if kind == "scores" else first_ghn(config)


def _stated(config: Config, stage: str) -> Rate:
    kind = stage.partition("/")[0]
    if kind in ("ghn", "oneshot"):
        hours = numbers.table("table4")["rows"][kind]["initial"]
        return Rate(3600 * hours, f"stated: Table 4's {hours} h")
    if kind in ("scores", "search"):
        return _of_scoring(config, stage)
    recipe = config.finalists
    if kind == "finalists":
        steps = recipe.epochs * (config.images.train // recipe.together)
        without = "; larger networks, drop-path, auxiliary head, exchange not counted"
        return _of_batches(steps * (recipe.together // recipe.norm_batch), without)
    return _of_batches(config.sgd.epochs * (config.images.train // config.sgd.batch))


def _of_scoring(config: Config, stage: str) -> Rate:
    row = numbers.table("table4")["rows"][_weights(config, stage).partition("/")[0]]
    each, searches = row["per_architecture"], stage.startswith("search/")
    count = config.search.evaluations if searches else config.correlation.drawn
    said = f"stated: Table 4's {each} s an architecture, of how many images is not said"
    return Rate(count * each, said)


def _of_batches(count: int, without: str = "") -> Rate:
    rows = numbers.table("table4")["rows"]
    # the row of the most steps is the least rounded
    most = max(int(key.removeprefix("sgd-")) for key in rows if key.startswith("sgd-"))
    each = rows[f"sgd-{most}"]["per_architecture"] / most
    return Rate(count * each, f"stated: {count:,} batches at Table 4's {each:g} s{without}")


# ---- as text -------------------------------------------------------------------------------------


def show(config: Config) -> str:
    """Return the plan as an aligned table, its totals below, and what they leave out."""
    lines = plan(config)
    rated = [line for line in lines if line.rate]
    known = [line.hours for line in rated if line.hours is not None]
    hours = "hours of the device" if config.cpu_is_enough else "accelerator-hours"
    head = ("stage", "jobs", hours, "disk in MB", "one training", "where the rate is from")
    jobs, disk = sum(line.jobs for line in lines), sum(line.jobs * line.disk for line in lines)
    # what takes nothing says nothing of the others
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
