"""Trainings of the search's best, random ones and the winner: Tables 1 and 2 (5.1.1 and 7.3)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.report.table import write
from ghn_pipeline.stages.shared import (
    CHOSEN_BY,
    FIRST_GHN,
    INITIAL,
    SCALE,
    TABLE,
    Job,
    Shown,
    Work,
    stage,
)
from ghn_pipeline.stages.train import sgd_costs, train, train_by_sgd
from ghn_pipeline.system.processes import is_worker

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.report.paper.tables1_to_3 import Cost, Setting
    from ghn_pipeline.report.table import Table
    from ghn_pipeline.settings.config import Config
    from ghn_pipeline.settings.sections import Recipe
    from ghn_pipeline.training.distributed import Team


#: The settings of a recipe, except the number of processes that share the work.
RECIPE = (
    "workers",
    "epochs",
    "batch",
    "norm_batch",
    "learning_rate",
    "warmup_epochs",
    "momentum",
    "weight_decay",
    "drop_path",
    "auxiliary_weight",
    "auxiliary_channels",
    "label_smoothing",
)
#: The records from which Tables 1 to 3 take the cost of the search.
COST = (f"{FIRST_GHN}: run.json", CHOSEN_BY)


@stage(
    "short/RANK",
    result="Truth",
    reads=("data", CHOSEN_BY),
    settings=(*INITIAL, "sgd", "evaluation.batch"),
    each="finalists.ranks",
    writes=("curve.csv",),
    needs="training",
    first=5,  # other stages wait for the winner
    chapters=("architecture_search", "transfer"),
    costs=sgd_costs,
    like="sgd/INDEX",
)
def short(job: Job) -> None:
    """Train one of the search's best by the short recipe of the ground truth (5.1.1)."""
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.pipeline.results import finalist

    device, block = prepare_device(job.config), finalist(job.config, "top", int(job.part))
    train_by_sgd(job, block, device, of=block.hash)


@stage(
    "winner",
    result="Winner",
    reads=(CHOSEN_BY, "short/{finalists.ranks}"),
    settings=("finalists.ranks",),
    writes=(),
    chapters=("architecture_search", "transfer"),
)
def winner(job: Job) -> None:
    """Choose the winner, the best of the search's best after the short trainings."""
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.results import by_rank, trained_on

    config = job.config
    ranks = config.finalists.ranks
    blocks, accuracies = by_rank(config, "top", ranks), {}
    for rank in ranks:
        run = trained_on(config, f"short/{rank}", blocks[rank])
        (measured,) = run["result"]["measured"].values()
        accuracies[rank] = measured["validation"]
    rank = max(accuracies, key=lambda r: (accuracies[r], -r))
    block = blocks[rank]
    result = {
        "rank": rank,
        "validation": accuracies[rank],
        "hash": block.hash,
        "block": block.to_json(),
        "of": accuracies,
    }
    record.write(config, "winner", result, seconds=0)
    tracking.done(result_folder(config, "winner"))
    print(f"rank {rank} wins with {100 * accuracies[rank]:.2f}% on the validation images")


def _finalists(group: str, read: str, each: str, *own: str) -> Callable[[Work], Work]:
    """Declare the trainings of a group of finalists; each rank or seed is a part."""
    return stage(
        f"finalists/{group}",
        result="Finalist",
        reads=("data", read),
        settings=(
            *INITIAL,
            "evaluation.batch",
            *(f"finalists.{key}" for key in (*RECIPE, *own)),
        ),
        each=each,
        writes=("model.pt", "curve.csv"),
        needs="finalists",
        chapters=("architecture_search",),
        shown={"curve.csv": Shown("curve.rst", "Training", "{part}")},
        costs=_costs,
        like="finalists",
    )


def _costs(config: "Config", part: str) -> costs.Costs:
    recipe = config.finalists
    steps = recipe.epochs * (config.images.train // recipe.together)
    count = steps * (recipe.together // recipe.norm_batch)
    without = "; larger networks, drop-path, auxiliary head, exchange not counted"
    rate = costs.batches(config, recipe.norm_batch, count, without)
    return costs.Costs(costs.left_by_sgd(recipe, costs.networks(config)), rate, recipe.processes)


@_finalists("top/RANK", CHOSEN_BY, "finalists.ranks")
@_finalists("random/RANK", CHOSEN_BY, "finalists.ranks")
@_finalists("best/SEED", "winner", "finalists.seeds", "cutout")
def finalists(job: Job) -> None:
    """Train an architecture to the end by the full recipe (sections 5.1.1 and 7.3).

    The architecture is top/RANK (one of the search's best), random/RANK (one of its first, which
    are random) or best/SEED (the winner, with CutOut). This command starts finalists.processes
    processes, on this machine or, in a Slurm job, on finalists.nodes machines.
    """
    from ghn_pipeline.pipeline.build import finalist_recipe
    from ghn_pipeline.pipeline.results import finalist

    config, (group, _, number) = job.config, job.part.partition("/")
    block, recipe = finalist(config, group, int(number)), finalist_recipe(config, group)

    def work(team: "Team") -> None:
        _train(config, job.stage, block, recipe, team)

    share_out(job, recipe, work)


def _train(config: "Config", name: str, block: "Block", recipe: "Recipe", team: "Team") -> None:
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.build import images_of
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.system.compute import precision
    from ghn_pipeline.training.finalist import Finalist, finalist_training

    network = Network(space_of(config).modules(block), config.images.resolution)
    generator = stream(config.seeds.initialisation, name)
    model = Finalist(network, recipe, generator).to(team.device)
    splits = images_of(config, team.device)
    training = finalist_training(
        name,
        model,
        splits,
        recipe,
        team,
        padding=config.images.padding,
        seed=f"{config.seeds.data_order}/{name}",
        dtype=precision(config.compute.precision, team.device),
        evaluation_batch=config.evaluation.batch,
    )
    said = {"hash": block.hash, "parameters": network.parameters, **how(config, team)}
    train(config, training, team.device, of=block.hash, **said)


def how(config: "Config", team: "Team") -> dict[str, Any]:
    """Return the record's entries about the computation of a training."""
    from ghn_pipeline.system.compute import precision

    return {
        "processes": team.size,
        "precision": str(precision(config.compute.precision, team.device)),
    }


def share_out(job: Job, recipe: "Recipe", work: "Callable[[Team], None]") -> None:
    """Let the recipe's processes do `work`: start them, or be one of them.

    Args:
        job: the stage, whose command each process runs.
        recipe: the numbers of processes and nodes.
        work: the work of one process.

    Raises:
        UserError: a process failed, or `work` raises it.
    """
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.training import distributed

    device = prepare_device(job.config)
    if recipe.processes > 1 and not is_worker():
        program, threads = ["-m", "ghn_pipeline.cli", *job.words], job.config.compute.threads
        distributed.launch(recipe.processes, recipe.nodes, threads, program)
        return
    with distributed.joined(device, recipe.processes) as team:
        work(team)


@stage(
    "table1",
    reads=(*COST, "finalists/top/{finalists.ranks}", "finalists/random/{finalists.ranks}"),
    settings=("scale", "tables", "finalists.ranks"),
    writes=tuple(f"table1{form}" for form in TABLE),
    root=SCALE,
    chapters=("architecture_search",),
    shown={"table1.html": Shown("table1.rst", "Tables 1 and 2", "Table 1")},
)
def table1(job: Job) -> None:
    """Make Table 1 (section 5.1.1): the search's best beside random architectures."""
    from ghn_pipeline.pipeline.results import by_rank, trained_on
    from ghn_pipeline.report.paper.tables1_to_3 import Classifiers, table1

    config = job.config
    cost, made_of = cost_of_search(config, short=False)
    rows = {}
    for key, group, spent in (("random", "random", None), ("ghn-top", "top", cost)):
        blocks = by_rank(config, group, config.finalists.ranks)
        runs = [
            trained_on(config, f"finalists/{group}/{rank}", blocks[rank])
            for rank in config.finalists.ranks
        ]
        rows[key] = Classifiers(spent, *_measured(runs))
        made_of += runs
    write_table(
        config, "table1", table1(rows, setting_of(config, made_of, config.finalists_note)), made_of
    )


@stage(
    "table2",
    reads=(*COST, "short/{finalists.ranks}", "finalists/best/{finalists.seeds}", "winner"),
    settings=("scale", "tables", "finalists.seeds"),
    writes=tuple(f"table2{form}" for form in TABLE),
    root=SCALE,
    chapters=("architecture_search",),
    shown={"table2.html": Shown("table2.rst", "Tables 1 and 2", "Table 2")},
)
def table2(job: Job) -> None:
    """Make Table 2 (section 5.1.1): the winner, trained with several seeds."""
    from ghn_pipeline.pipeline.results import trained_on, winner
    from ghn_pipeline.report.paper.tables1_to_3 import Classifiers, table2

    config = job.config
    cost, made_of = cost_of_search(config, short=True)
    block = winner(config)
    runs = [trained_on(config, f"finalists/best/{s}", block) for s in config.finalists.seeds]
    made_of += runs
    parameters, accuracies = _measured(runs)
    # all runs have the same architecture, so its parameters are counted once
    row = Classifiers(cost, parameters[:1], accuracies)
    setting = setting_of(config, made_of, config.finalists_note)
    made = table2({"ghn-top-best": row}, setting, cutout=config.finalists.cutout)
    write_table(config, "table2", made, made_of)


def cost_of_search(config: "Config", *, short: bool) -> "tuple[Cost, list[dict[str, Any]]]":
    """Return the cost of finding the best architectures, and the records that it is from.

    Args:
        config: the configuration.
        short: whether the cost includes the short trainings that choose the winner.

    Raises:
        UserError: a stage is missing or stale; the message names it.
    """
    from ghn_pipeline.pipeline.results import chooser, first_ghn
    from ghn_pipeline.report.paper.tables1_to_3 import Cost

    trained, searched = _finished(config, [first_ghn(config), chooser(config)])
    briefly = [f"short/{rank}" for rank in config.finalists.ranks] if short else []
    chosen = _finished(config, briefly)
    days = [run["accelerator_seconds"] / 86400 for run in (trained, searched, *chosen)]
    return Cost(days[0], days[1], sum(days[2:])), [trained, searched, *chosen]


def setting_of(config: "Config", made_of: list[dict[str, Any]], note: str) -> "Setting":
    """Return the setting of the measurements in Tables 1 to 3; `note` is the scale in words."""
    from ghn_pipeline.report.paper.tables1_to_3 import Setting

    devices = {run["hardware"]["device"]: run["hardware"] for run in made_of if run["hardware"]}
    names = [of["processor"] if name == "cpu" else name for name, of in sorted(devices.items())]
    return Setting(
        scale=config.scale,
        scale_note=note,
        searched=config.search.evaluations,
        accelerator=" and ".join(names),
        costs=config.tables.costs,
    )


def write_table(config: "Config", name: str, made: "Table", made_of: list[dict[str, Any]]) -> None:
    """Write a table, and the records of the runs it was made of."""
    from ghn_pipeline.pipeline.record import write_provenance

    write(made, Path("results", config.scale, name))
    write_provenance(config, name, made_of)
    print(f"see results/{config.scale}/{name}.md")


def _finished(config: "Config", names: list[str]) -> list[dict[str, Any]]:
    from ghn_pipeline.pipeline import record

    return [record.read(config, name) for name in names]


def _measured(runs: list[dict[str, Any]]) -> tuple[list[int], list[float]]:
    """Return the parameters, and the accuracies on the test images."""
    results = [run["result"] for run in runs]
    accuracies = [measured["test"] for r in results for measured in r["measured"].values()]
    return [result["parameters"] for result in results], accuracies
