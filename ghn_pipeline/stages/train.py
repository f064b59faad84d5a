"""Training of graph hypernetworks (4, 7.2), the one-shot model, and the ground truth (5.3)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import checkpoint_file, command, result_folder, settings
from ghn_pipeline.stages.shared import INITIAL, Job, Shown, Work, stage
from ghn_pipeline.system.files import digest, write_atomically

if TYPE_CHECKING:
    import torch

    from ghn_pipeline.data.images import Splits
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.settings.config import Config
    from ghn_pipeline.settings.sections import Schedule
    from ghn_pipeline.training.fit import Training


#: Settings in which a GHN may differ from the first and still have its cost guessed from it. The
#: guess is in proportion to nodes and epochs, and ignores the others.
ABLATED = {"nodes", "epochs", "passes", "scheme", "share_parameters", "pass_embeddings"}


def _ghn_costs(config: "Config", part: str) -> costs.Costs:
    from ghn_pipeline.pipeline.build import untrained

    one, first = config.models[part], config.first_ghns[0]
    like, other = config.models[first], costs.FREE | ABLATED
    rate = costs.initial(config, "ghn", one)
    if rate.seconds is None and one.model_dump(exclude=other) == like.model_dump(exclude=other):
        rate = costs.measured(config, [f"ghn/{first}"]) or costs.initial(config, "ghn", like)
        if rate.seconds is not None:
            seconds = rate.seconds * one.nodes / like.nodes * one.epochs / like.epochs
            said = "guess: as the first GHN, in proportion to nodes and epochs alone"
            rate = costs.Rate(seconds, said)
    copies = costs.ADAM + (one.average > 0)
    return costs.Costs(costs.left_by_model(untrained(config, f"ghn/{part}"), copies), rate)


def _oneshot_costs(config: "Config", part: str) -> costs.Costs:
    from ghn_pipeline.pipeline.build import untrained

    one = config.oneshots[part]
    copies = costs.ADAM + (one.average > 0)
    disk = costs.left_by_model(untrained(config, f"oneshot/{part}"), copies)
    return costs.Costs(disk, costs.initial(config, "oneshot", one))


def sgd_costs(config: "Config", part: str) -> costs.Costs:
    """Return the costs of a training by the recipe of the ground truth."""
    recipe = config.sgd
    disk = costs.left_by_sgd(recipe, costs.networks(config), publishes=False)
    count = recipe.epochs * (config.images.train // recipe.batch)
    return costs.Costs(disk, costs.batches(config, recipe.batch, count))


@stage(
    "ghn/NAME",
    result="Training",
    reads=("data", "architectures"),
    settings=(
        *INITIAL,
        "benchmark.curve",
        "benchmark.images",
        "models.{part}",
        "seeds.training_architectures",
    ),
    each="trained",
    known="models",
    writes=("model.pt", "curve.csv"),
    needs="training",
    first=10,
    shown={"curve.csv": Shown("curve.rst", "Training", "GHN {part}")},
    costs=_ghn_costs,
    like="ghn/{part}",
)
def ghn(job: Job) -> None:
    """Train a graph hypernetwork (sections 4 and 7.2)."""
    settings = job.config.models[job.part]
    _train_search(job, settings, settings.nodes, fewer=settings.fewer_nodes)


@stage(
    "oneshot/SEED",
    result="Training",
    reads=("data", "architectures"),
    settings=(
        *INITIAL,
        "benchmark.curve",
        "benchmark.images",
        "oneshots.{part}",
        "seeds.training_architectures",
    ),
    each="oneshots",
    writes=("model.pt", "curve.csv"),
    needs="training",
    first=10,
    chapters=("correlation", "benchmark"),
    shown={"curve.csv": Shown("curve.rst", "Training", "one-shot model {part}")},
    costs=_oneshot_costs,
    like="oneshot",
)
def oneshot(job: Job) -> None:
    """Train the one-shot model of shared weights (section 5.3)."""
    _train_search(job, job.config.oneshots[job.part], job.config.space.nodes)


def _truth(name: str, each: str, *chapters: str) -> Callable[[Work], Work]:
    """Declare trainings of test architectures, one for each; `each` says how many."""
    return stage(
        name,
        result="Truth",
        reads=("data", "architectures"),
        settings=(*INITIAL, "sgd", "evaluation.batch"),
        each=each,
        writes=("curve.csv",),
        needs="training",
        chapters=chapters,
        costs=sgd_costs,
        like="sgd/INDEX",
    )


@_truth("sgd/INDEX", "correlation.architectures", "correlation")
@_truth("repeat/INDEX", "correlation.repeats", "correlation")
def sgd(job: Job) -> None:
    """Train one test architecture from scratch, for its ground truth (section 5.3).

    `repeat` does it again from another seed, to see how far the ground truth can be relied on.
    """
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.pipeline.results import architectures_of

    device, block = prepare_device(job.config), architectures_of(job.config)[int(job.part)]
    train_by_sgd(job, block, device)


def train_by_sgd(job: Job, block: "Block", device: "torch.device", of: str = "") -> None:
    """Train an architecture by the recipe of the ground truth; `of` is as in `train`.

    Each stage has an initialisation and an order of images of its own.
    """
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network, Trained
    from ghn_pipeline.pipeline.build import images_of
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.training.sgd import sgd_training

    config, (kind, _, number) = job.config, job.stage.partition("/")
    network = Network(space_of(config).modules(block), config.images.resolution)
    seed = stream(config.seeds.initialisation, kind, int(number))
    model, splits = Trained(network, seed).to(device), images_of(config, device)
    training = sgd_training(
        job.stage,
        model,
        splits,
        config.sgd,
        config.evaluation,
        padding=config.images.padding,
        seed=f"{config.seeds.data_order}/{job.stage}",
    )
    train(config, training, device, of=of, hash=block.hash)


def _train_search(job: Job, schedule: "Schedule", nodes: int, *, fewer: bool = False) -> None:
    """Train a GHN or a one-shot model on random architectures, none of which is held out."""
    from ghn_pipeline.pipeline.build import SEEDS_APART, images_of, untrained
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.pipeline.results import held_out
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.training.ghn import sampler, search_training

    config = job.config
    device, space, seeds = prepare_device(config), space_of(config), config.seeds
    apart = SEEDS_APART * schedule.seeds[0]
    drawn = space_of(config, schedule.operation_weights)
    seed = seeds.training_architectures + apart
    draw = sampler(drawn, nodes, seed, held_out(config), fewer=fewer)
    model, splits = untrained(config, job.stage).to(device), images_of(config, device)
    training = search_training(
        job.stage,
        model,
        draw,
        space,
        splits,
        schedule,
        resolution=config.images.resolution,
        padding=config.images.padding,
        order=seeds.data_order + apart,
    )
    training.observe = observed(config, training, splits)
    train(config, training, device)


def observed(
    config: "Config", training: "Training", splits: "Splits"
) -> "Mapping[int, Callable[[], dict[str, float]]]":
    """Return the measurements during a training, none if `benchmark.curve` is 0.

    Raises:
        UserError: the selection was not drawn, or there are no published accuracies of it.
    """
    from ghn_pipeline.pipeline.results import selection_of
    from ghn_pipeline.pipeline.spaces import published_of, space_of
    from ghn_pipeline.ranking.benchmark import learning_curve

    if not config.benchmark.curve:
        return {}
    return learning_curve(
        training,
        splits,
        space_of(config),
        published_of(config),
        selection_of(config),
        points=config.benchmark.curve,
        images=config.benchmark.images,
        resolution=config.images.resolution,
    )


def train(
    config: "Config", training: "Training", device: "torch.device", of: str = "", **said: object
) -> None:
    """Train to the end while MLflow follows; publish and track the model, the curve, the record.

    Args:
        config: the configuration.
        training: the training, with the name of the stage.
        device: the device to train on.
        of: the hash of the network or images to train on if the settings do not determine them;
            with another hash the training starts anew.
        said: further entries of the record's result.
    """
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.machine import hardware
    from ghn_pipeline.training import checkpoint
    from ghn_pipeline.training.fit import fit

    name = training.name
    key, folder = digest(settings(config, name)), result_folder(config, name)
    path = checkpoint_file(config, name, of=of)
    with tracking.follow(record.provenance(config, name), folder) as saved_as:
        log = fit(
            training,
            path,
            key,
            made_by=command(name),
            checkpoint_seconds=config.compute.checkpoint_seconds,
            log_seconds=config.compute.log_seconds,
            device=device,
            saved_as=saved_as,
        )
    if not training.team.leads:
        return
    # written out, since pandas takes half a second to load
    curve = ["step,loss,learning_rate", *(",".join(map(repr, entry)) for entry in log.curve)]
    result = {
        "steps": training.steps,
        "final_loss": log.curve[-1][1],
        "measured": log.observed,
        **said,
    }
    # a job that waited for this one has nothing left to train, and publishes the same files
    with checkpoint.only_writer(path):
        # no stage uses the models of these, which are trained for their accuracies
        outputs = ["curve.csv"]
        if not name.startswith(("sgd/", "repeat/", "short/")):
            checkpoint.save(folder / "model.pt", {"model": training.result.state_dict()}, key)
            outputs.append("model.pt")
        write_atomically(folder / "curve.csv", "\n".join(curve) + "\n")
        record.write(
            config,
            name,
            result,
            seconds=log.seconds,
            outputs=outputs,
            hardware=hardware(device),
        )
        tracking.done(folder)
