"""The costs of jobs, for the declarations of stages: disk, and the times of the paper's Table 4.

The declarations import this module, so its functions import modules that load PyTorch themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Any

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest

if TYPE_CHECKING:
    from torch import nn

    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.settings.config import Config
    from ghn_pipeline.settings.sections import Anytime, Recipe, Schedule, Sgd

FLOAT = 4  # bytes of a number in model.pt and in checkpoints
ADAM = 2  # copies of the weights in its state: both moments
SAMPLES = 100  # architectures whose mean size is taken

#: Digests of the settings in params.yaml, as shipped, for which Table 4 states costs.
STATED_FOR = {
    "b954ff23b694e8e6",  # training the GHN
    "04b8b2e3f2b6d768",  # training the one-shot model
    "ed49a26455556c18",  # batches of SGD
    "a99f535e24885a51",  # scoring by the GHN
    "6a148bd1834acd55",  # scoring by the one-shot model
}
#: Settings that change no cost.
FREE = {"learning_rate", "halve_at", "clip", "seeds", "average", "warmup", "positions"}


@dataclass(frozen=True)
class Rate:
    """Accelerator-seconds of one job, None if they are unknown, and their source in words."""

    seconds: float | None
    source: str


NO_RATE = Rate(None, "no rate: none has finished, and Table 4 has none for these settings")


@dataclass(frozen=True)
class Costs:
    """The costs of one job.

    Attributes:
        disk: bytes that it leaves behind, text and pictures not counted.
        rate: the rate if no run has measured it; None in a plan for a job without accelerator.
        accelerators: the number of accelerators that share the work.
    """

    disk: float = 0
    rate: Rate | None = NO_RATE
    accelerators: int = 1


#: The costs of a job, from the configuration and the part.
CostsOf = Callable[["Config", str], Costs]


# ---- disk ----------------------------------------------------------------------------------------


def left_by_model(model: "nn.Module", copies: int) -> float:
    """Return the bytes that training leaves behind.

    Args:
        model: the model.
        copies: the copies of its parameters in the optimizer's state and in a running mean.
    """
    held = sum(t.numel() for t in model.state_dict().values())
    return _left(sum(p.numel() for p in model.parameters()), held, copies)


def _left(trained: float, held: float, copies: int, *, publishes: bool = True) -> float:
    # MLflow keeps a copy of model.pt, if there is one
    return FLOAT * (held + copies * trained + (2 * held if publishes else 0))


def mean_size(networks: "Sequence[Network]") -> tuple[float, float]:
    """Return the mean counts of the numbers that are trained, and of those that are kept."""
    trained = mean(network.parameters for network in networks)
    return trained, trained + 2 * mean(sum(network.norms.values()) for network in networks)


def left_by_sgd(
    recipe: "Sgd | Recipe | Anytime", networks: "Sequence[Network]", *, publishes: bool = True
) -> float:
    """Return the mean bytes that training one of `networks` leaves behind."""
    import torch

    from ghn_pipeline.settings.sections import Recipe
    from ghn_pipeline.training.auxiliary import AuxiliaryHead

    (trained, held), head = mean_size(networks), 0.0
    if isinstance(recipe, Recipe) and recipe.auxiliary_weight:
        with torch.device("meta"):  # its weights are counted, not made
            heads = [AuxiliaryHead(network, recipe.auxiliary_channels) for network in networks]
        head = mean(sum(p.numel() for p in each.parameters()) for each in heads)
    return _left(trained + head, held + head, recipe.momentum > 0, publishes=publishes)


def drawn(config: "Config") -> "list[Block]":
    """Draw random architectures, whose mean size is that of the trained ones."""
    from ghn_pipeline.pipeline.spaces import space_of

    rng = Random(config.seeds.test_architectures)
    return [space_of(config).sample(rng, config.space.nodes) for _ in range(SAMPLES)]


def networks(config: "Config") -> "list[Network]":
    """Return networks of random architectures."""
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.spaces import space_of

    space, side = space_of(config), config.images.resolution
    return [Network(space.modules(block), side) for block in drawn(config)]


# ---- rates ---------------------------------------------------------------------------------------


def measured(config: "Config", stages: Sequence[str]) -> Rate | None:
    """Return the mean rate of the finished ones of `stages`, None if none has finished."""
    from ghn_pipeline.pipeline import record

    found = []
    for stage in stages:
        try:
            found.append(float(record.read(config, stage)["accelerator_seconds"]))
        except UserError:  # the record is missing, stale or damaged
            continue
    return Rate(mean(found), f"measured, {len(found)} of {len(stages)} runs") if found else None


def initial(config: "Config", row: str, schedule: "Schedule") -> Rate:
    """Return the rate that Table 4 states for training the "ghn" or the "oneshot" model."""
    hours = _table4(row)["initial"]
    return _stated(config, _schedule(config, row, schedule), 3600 * hours, f"Table 4's {hours} h")


def scoring(config: "Config", row: str, schedule: "Schedule", count: int) -> Costs:
    """Return the costs that Table 4 states for scoring `count` architectures by either model."""
    each = _table4(row)["per_architecture"]
    settings = {**_schedule(config, row, schedule), "evaluation": config.evaluation.model_dump()}
    said = f"Table 4's {each} s an architecture, of how many images is not said"
    return Costs(rate=_stated(config, settings, count * each, said))


def batches(config: "Config", batch: int, count: int, without: str = "") -> Rate:
    """Return the rate that Table 4 states for `count` batches of SGD.

    `without` names the parts that the rate leaves out.
    """
    # the row with the most steps is rounded least
    each = _table4("sgd-1000")["per_architecture"] / 1000
    said = f"{count:,} batches at Table 4's {each:g} s{without}"
    return _stated(config, {"batch": batch}, count * each, said)


def _table4(row: str) -> dict[str, float]:
    from ghn_pipeline.report.paper import numbers  # slow: it loads a YAML reader

    rows: dict[str, dict[str, float]] = numbers.table("table4")["rows"]
    return rows[row]


def _schedule(config: "Config", row: str, schedule: "Schedule") -> dict[str, Any]:
    return {"train": config.images.train, row: schedule.model_dump(exclude=FREE)}


def _stated(config: "Config", settings: dict[str, Any], seconds: float, said: str) -> Rate:
    """Return a stated rate if these settings and those of the networks are the paper's."""
    stack = {key: getattr(config, key).model_dump() for key in ("space", "network")}
    found = digest({**stack, "resolution": config.images.resolution, **settings})
    return Rate(seconds, f"stated: {said}") if found in STATED_FOR else NO_RATE
