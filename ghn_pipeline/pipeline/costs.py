"""What jobs take, as the declarations of stages say it: disk, and what the paper's Table 4 states.

The declarations import this module, so what imports PyTorch is imported inside its functions.
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

#: Digests of what `_stated` looks at in params.yaml as shipped: for no other settings does Table 4
#: state costs.
STATED_FOR = {
    "b954ff23b694e8e6",  # training the GHN
    "8a61f328404675cf",  # training the one-shot model
    "ed49a26455556c18",  # batches of SGD
    "a99f535e24885a51",  # scoring by the GHN
    "20bd1cd726ebd1f9",  # scoring by the one-shot model
}
#: Settings that change no cost.
FREE = {"learning_rate", "halve_at", "clip", "seed", "average", "warmup", "positions"}


@dataclass(frozen=True)
class Rate:
    """Accelerator-seconds of one job, None where they are not known, and who says so."""

    seconds: float | None
    source: str


NO_RATE = Rate(None, "no rate: none has finished, and Table 4 has none for these settings")


@dataclass(frozen=True)
class Costs:
    """What one job takes.

    Attributes:
        disk: bytes that it leaves behind; 0 for nothing but text and pictures.
        rate: where no run has measured it; None in a plan for what needs no accelerator.
        accelerators: how many share the work.
    """

    disk: float = 0
    rate: Rate | None = NO_RATE
    accelerators: int = 1


#: Says what a job takes, given the configuration and the part.
CostsOf = Callable[["Config", str], Costs]


# ---- disk ----------------------------------------------------------------------------------------


def left_by_model(model: "nn.Module", copies: int) -> float:
    """Return the bytes that training leaves behind, with so many copies of what is trained.

    The copies are in the optimizer's state, or a running mean.
    """
    held = sum(t.numel() for t in model.state_dict().values())
    return _left(sum(p.numel() for p in model.parameters()), held, copies)


def _left(trained: float, held: float, copies: int, *, publishes: bool = True) -> float:
    # of model.pt, if there is one, MLflow keeps a copy
    return FLOAT * (held + copies * trained + (2 * held if publishes else 0))


def mean_size(networks: "Sequence[Network]") -> tuple[float, float]:
    """Return the mean numbers of networks: those that are trained, and those that are kept."""
    trained = mean(network.parameters for network in networks)
    return trained, trained + 2 * mean(sum(network.norms.values()) for network in networks)


def left_by_sgd(
    recipe: "Sgd | Recipe | Anytime", networks: "Sequence[Network]", *, publishes: bool = True
) -> float:
    """Return the bytes that training one of `networks` leaves behind, in the mean."""
    import torch

    from ghn_pipeline.settings.sections import Recipe
    from ghn_pipeline.training.auxiliary import AuxiliaryHead

    (trained, held), head = mean_size(networks), 0.0
    if isinstance(recipe, Recipe) and recipe.auxiliary_weight:
        with torch.device("meta"):  # counted, not made
            heads = [AuxiliaryHead(network, recipe.auxiliary_channels) for network in networks]
        head = mean(sum(p.numel() for p in each.parameters()) for each in heads)
    return _left(trained + head, held + head, recipe.momentum > 0, publishes=publishes)


def drawn(config: "Config") -> "list[Block]":
    """Draw random architectures: those that will be trained are as large in the mean."""
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
    """Return the mean rate of those of `stages` that have finished, None if none has."""
    from ghn_pipeline.pipeline import record

    found = []
    for stage in stages:
        try:
            found.append(float(record.read(config, stage)["accelerator_seconds"]))
        except UserError:  # missing, stale or not whole
            continue
    return Rate(mean(found), f"measured, {len(found)} of {len(stages)} runs") if found else None


def initial(config: "Config", row: str, schedule: "Schedule") -> Rate:
    """Return what Table 4 states for training what scores, the "ghn" or the "oneshot" model."""
    hours = _table4(row)["initial"]
    return _stated(config, _schedule(config, row, schedule), 3600 * hours, f"Table 4's {hours} h")


def scoring(config: "Config", row: str, schedule: "Schedule", count: int) -> Costs:
    """Return what Table 4 states for scoring `count` architectures by either."""
    each = _table4(row)["per_architecture"]
    settings = {**_schedule(config, row, schedule), "evaluation": config.evaluation.model_dump()}
    said = f"Table 4's {each} s an architecture, of how many images is not said"
    return Costs(rate=_stated(config, settings, count * each, said))


def batches(config: "Config", batch: int, count: int, without: str = "") -> Rate:
    """Return what Table 4 states for `count` batches of SGD; `without` says what it leaves out."""
    each = _table4("sgd-1000")["per_architecture"] / 1000  # fewer steps are rounded more
    said = f"{count:,} batches at Table 4's {each:g} s{without}"
    return _stated(config, {"batch": batch}, count * each, said)


def _table4(row: str) -> dict[str, float]:
    from ghn_pipeline.report.paper import numbers  # which reads YAML

    rows: dict[str, dict[str, float]] = numbers.table("table4")["rows"]
    return rows[row]


def _schedule(config: "Config", row: str, schedule: "Schedule") -> dict[str, Any]:
    return {"train": config.images.train, row: schedule.model_dump(exclude=FREE)}


def _stated(config: "Config", settings: dict[str, Any], seconds: float, said: str) -> Rate:
    """A rate, if these settings and those of the networks are the paper's."""
    stack = {key: getattr(config, key).model_dump() for key in ("space", "network")}
    found = digest({**stack, "resolution": config.images.resolution, **settings})
    return Rate(seconds, f"stated: {said}") if found in STATED_FOR else NO_RATE
