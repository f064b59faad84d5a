"""The winner as an ImageNet-mobile network: Table 3 (5.1.2 and 7.3)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.stages.finalists import (
    COST,
    RECIPE,
    cost_of_search,
    how,
    setting_of,
    share_out,
    write_table,
)
from ghn_pipeline.stages.shared import SCALE, TABLE, Job, Shown, stage
from ghn_pipeline.stages.train import train

if TYPE_CHECKING:
    from ghn_pipeline.data.imagenet import ImageNet
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.settings.config import Config
    from ghn_pipeline.training.distributed import Team


#: The settings that only the recipe of ImageNet-mobile has.
OWN = (
    "folder",
    "resolution",
    "blocks",
    "reductions",
    "stem_stride",
    "multiply_adds",
    "decay",
    "cutout",
)


def _costs(config: "Config", part: str) -> costs.Costs:
    recipe = config.mobile
    if not recipe.folder:
        return costs.Costs(rate=costs.Rate(0, "only counts: mobile.folder names no ImageNet"))
    networks = [_network(config, None, block)[0] for block in costs.drawn(config)]
    return costs.Costs(costs.left_by_sgd(recipe, networks), accelerators=recipe.processes)


@stage(
    "mobile",
    result="Mobile",
    reads=("winner",),
    settings=(
        "network.stem_multiplier",
        "seeds.data_order",
        "seeds.initialisation",
        *(f"mobile.{key}" for key in (*RECIPE, *OWN)),
    ),
    writes=(),
    needs="mobile",
    chapters=("transfer",),
    costs=_costs,
)
def mobile(job: Job) -> None:
    """Stack the winner's block for ImageNet-mobile, and train it (5.1.2, 7.3).

    The network has the most channels that keep it below mobile.multiply_adds. If mobile.folder
    names no folder of ImageNet, its parameters and multiply-adds are counted without a training.
    A training also writes model.pt and curve.csv.
    """
    config = job.config
    if not config.mobile.folder:
        _count(config)
        return

    def work(team: "Team") -> None:
        _train(config, team)

    share_out(job, config.mobile, work)


def _count(config: "Config") -> None:
    from ghn_pipeline.pipeline import record, tracking

    _, counted = _network(config, None)
    folder = result_folder(config, "mobile")
    for name in ("model.pt", "curve.csv"):  # left by an earlier training
        (folder / name).unlink(missing_ok=True)
    record.write(config, "mobile", {**counted, "images": None}, seconds=0)
    tracking.done(folder)
    print("mobile.folder names no ImageNet: the network was counted, not trained")


def _train(config: "Config", team: "Team") -> None:
    from ghn_pipeline.data import imagenet
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.system.compute import precision
    from ghn_pipeline.training.finalist import Finalist
    from ghn_pipeline.training.mobile import mobile_training

    # one process lists the million files for all
    images = team.share(imagenet.find(Path(config.mobile.folder)) if team.leads else None)
    assert images is not None
    network, counted = _network(config, images)
    generator = stream(config.seeds.initialisation, "mobile")
    model = Finalist(network, config.mobile, generator).to(team.device)
    training = mobile_training(
        "mobile",
        model,
        images,
        config.mobile,
        team,
        seed=f"{config.seeds.data_order}/mobile",
        dtype=precision(config.compute.precision, team.device),
        loaders=config.compute.loaders,
    )
    of = {
        "digest": images.digest,
        "classes": len(images.classes),
        "training": len(images.train),
        "validation": len(images.validation),
    }
    work_on = f"{counted['hash']}-{images.digest}"
    train(config, training, team.device, work_on, **counted, **how(config, team), images=of)


def _network(
    config: "Config", images: "ImageNet | None", block: "Block | None" = None
) -> "tuple[Network, dict[str, Any]]":
    """Return the largest network that fits, by default the winner's, and its counts."""
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.results import winner
    from ghn_pipeline.pipeline.spaces import mobile_space
    from ghn_pipeline.spaces.fitting import fitted

    settings, block = config.mobile, block or winner(config)
    limit = settings.multiply_adds * 1_000_000
    stack, of = mobile_space(config, images), "mobile.multiply_adds"
    space = fitted(stack, block, settings.resolution, limit, of)
    network = Network(space.modules(block), settings.resolution)
    counted = {
        "hash": block.hash,
        "channels": space.channels,
        "parameters": network.parameters,
        "multiply_adds": network.multiply_adds,
    }
    return network, counted


@stage(
    "table3",
    reads=(*COST, "short/{finalists.ranks}", "mobile", "winner"),
    settings=("scale", "tables"),
    writes=tuple(f"table3{form}" for form in TABLE),
    root=SCALE,
    chapters=("transfer",),
    shown={"table3.html": Shown("table3.rst", "Table 3", "the table")},
)
def table3(job: Job) -> None:
    """Make Table 3 (section 5.1.2): the winner's block for ImageNet-mobile."""
    from ghn_pipeline.pipeline.results import trained_on, winner
    from ghn_pipeline.report.paper.tables1_to_3 import Accuracy, Mobile, table3

    config = job.config
    cost, made_of = cost_of_search(config, short=True)
    run = trained_on(config, "mobile", winner(config))
    result, tested = run["result"], None
    if (images := result["images"]) is not None:
        (measured,) = result["measured"].values()
        tested = Accuracy(
            measured["top1"],
            measured.get("top5"),
            classes=images["classes"],
            training_images=images["training"],
            validation_images=images["validation"],
        )
    row = Mobile(cost, result["parameters"], result["multiply_adds"], tested)
    made = table3({"ghn-top-best": row}, setting_of(config, made_of, config.mobile_note))
    write_table(config, "table3", made, [*made_of, run])
