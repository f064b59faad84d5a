"""Anytime prediction: training networks with exits; Figures 3, 4, 8 to 10 (5.2, 7.3, 7.5.2)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.report.table import write
from ghn_pipeline.stages.shared import (
    CHOSEN_BY,
    FIRST_GHN,
    INITIAL,
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    Work,
    stage,
)
from ghn_pipeline.stages.train import train
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.report.paper.anytime_table import Found, Group, Method
    from ghn_pipeline.report.paper.curves import Curve
    from ghn_pipeline.settings.config import Config
    from ghn_pipeline.spaces.anytime import Anytime


#: The settings of the recipe for networks with exits (section 7.3).
RECIPE = (
    "epochs",
    "batch",
    "learning_rate",
    "divide_at",
    "momentum",
    "nesterov",
    "weight_decay",
)
FIGURES = (3, 4, 8, 9, 10)
#: The limit on the multiply-adds of the best network, in words.
LIMIT = "the cost of the first network in anytime.rivals"


def _costs(config: "Config", part: str) -> costs.Costs:
    return costs.Costs(costs.left_by_sgd(config.anytime, costs.networks(config)))


def _best_costs(config: "Config", part: str) -> costs.Costs:
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.build import comparable
    from ghn_pipeline.pipeline.spaces import anytime_space
    from ghn_pipeline.spaces.fitting import fitted

    space, side, limit = anytime_space(config), config.images.resolution, comparable(config)
    of = [(fitted(space, block, side, limit, LIMIT), block) for block in costs.drawn(config)]
    networks = [Network(wide.modules(block), side) for wide, block in of]
    return costs.Costs(costs.left_by_sgd(config.anytime, networks))


def _baseline_costs(config: "Config", part: str) -> costs.Costs:
    import torch

    from ghn_pipeline.pipeline.build import baseline

    with torch.device("meta"):  # its weights are counted, not made
        model = baseline(config, part)
    return costs.Costs(costs.left_by_model(model, config.anytime.momentum > 0))


def _trained(
    name: str,
    read: Sequence[str],
    own: Sequence[str],
    costs: costs.CostsOf = _costs,
    **more: Any,
) -> "Callable[[Work], Work]":
    """Declare the trainings of one kind of network with exits."""
    return stage(
        f"anytime/{name}",
        result="Anytime",
        reads=("data", *read),
        settings=(*own, "evaluation.batch", *(f"anytime.{key}" for key in RECIPE)),
        writes=("model.pt", "curve.csv"),
        needs="training",
        chapters=("anytime_prediction",),
        shown={"curve.csv": Shown("curve.rst", "Training", "{part}")},
        costs=costs,
        **more,
    )


# the top networks train first, because the best waits for them
@_trained("top/RANK", [CHOSEN_BY], INITIAL, each="anytime.top", first=5, like="anytime")
@_trained("random/INDEX", ["architectures"], INITIAL, each="anytime.random", like="anytime")
@_trained(
    "best",
    [CHOSEN_BY, "anytime/top/{anytime.top}"],
    # its width depends on the cost of the first baseline, and its choice on an area over budgets
    (*INITIAL, "anytime.top", "anytime.{anytime.rivals[0]}", "evaluation.budgets"),
    _best_costs,
)
@_trained(
    "BASELINE",
    [],
    # a baseline belongs to no search space
    (*(path for path in INITIAL if path != "network"), "anytime.{part}"),
    _baseline_costs,
    each="anytime.rivals",
    like="anytime/{part}",
)
def anytime(job: Job) -> None:
    """Train a network with exits by the recipe of Huang et al. (section 7.3, anytime).

    The network is top/RANK (one of the search's best), random/INDEX (a test architecture), best
    (the top architecture with the largest area on the validation images, as wide as the cost of
    the first baseline allows), or a baseline of anytime.rivals.
    """
    from ghn_pipeline.pipeline.build import images_of
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.training.anytime import anytime_training

    config = job.config
    device = prepare_device(config)
    model, spent, said = _model(config, job.part)
    model.to(device)
    training = anytime_training(
        job.stage,
        model,
        images_of(config, device),
        config.anytime,
        padding=config.images.padding,
        seed=f"{config.seeds.data_order}/{job.stage}",
        evaluation_batch=config.evaluation.batch,
    )
    train(config, training, device, of=said.get("hash", ""), spent=spent, **said)


def _model(config: "Config", name: str) -> "tuple[Any, list[int], dict[str, Any]]":
    """Return the untrained network, its multiply-adds up to each exit, and its record entries."""
    import torch

    from ghn_pipeline.baselines import multiply_adds
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network, Trained
    from ghn_pipeline.pipeline.build import baseline

    generator = stream(config.seeds.initialisation, f"anytime/{name}")
    if name in config.anytime.rivals:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            model = baseline(config, name)
        spent = multiply_adds(model, config.images.resolution)
        return model, spent, {"parameters": sum(p.numel() for p in model.parameters())}
    space, block = stacked(config, name)
    network = Network(space.modules(block), config.images.resolution)
    said = {"hash": block.hash, "parameters": network.parameters, "channels": space.channels}
    return Trained(network, generator), network.spent, {**said, "block": block.to_json()}


def stacked(config: "Config", name: str) -> "tuple[Anytime, Block]":
    """Return the space that stacks top/RANK, random/INDEX or best, and the architecture.

    Raises:
        UserError: a result that determines the architecture is missing or stale.
    """
    from ghn_pipeline.pipeline.build import comparable
    from ghn_pipeline.pipeline.spaces import anytime_space
    from ghn_pipeline.spaces.fitting import fitted

    space, (group, _, rank) = anytime_space(config), name.partition("/")
    if group == "best":
        block = best(config)
        side, limit = config.images.resolution, comparable(config)
        return fitted(space, block, side, limit, LIMIT), block
    return space, members(config, group)[int(rank)]


def members(config: "Config", group: str) -> "list[Block]":
    """Return the architectures of "top" by rank, or of "random" as `ghn architectures` drew them.

    Raises:
        UserError: a result that determines the architectures is missing or stale.
    """
    from ghn_pipeline.pipeline.results import architectures_of, by_rank

    if group == "random":
        return architectures_of(config)
    return by_rank(config, group, config.anytime.top)


def best(config: "Config") -> "Block":
    """Return the top architecture with the largest area on the validation images.

    Raises:
        UserError: a training is missing or stale, or its architecture is no longer the chosen one.
    """
    from ghn_pipeline.training.batches import area

    blocks, areas = members(config, "top"), {}
    for rank in config.anytime.top:
        curve = _curve(_of_block(config, f"top/{rank}", blocks[rank]), "validation")
        areas[rank] = area(curve.spent, curve.accuracies, *_budgets(config))
    return blocks[max(areas, key=lambda rank: (areas[rank], -rank))]


@stage(
    "anytime_curves",
    reads=(
        CHOSEN_BY,
        "data",
        "architectures",
        f"{FIRST_GHN}: model.pt run.json",
        f"scores/{FIRST_GHN}",
        "anytime/top/{anytime.top}",
        "anytime/random/{anytime.random}",
        "anytime/best",
        "anytime/{anytime.rivals}",
    ),
    settings=("scale", "anytime.top", "anytime.random", "anytime.rivals", *INTERVALS),
    writes=(
        *(f"{table}{form}" for table in ("anytime", "areas") for form in TABLE),
        *(f"figure{n}{form}" for n in FIGURES for form in (".svg", ".png")),
        "anytime_curves.json",
        "anytime_curves.findings.json",
        "anytime_export/architecture.json",
        "anytime_export/model.pt",
    ),
    root=SCALE,
    memory_mb=3000,
    minutes=20,
    chapters=("anytime_prediction",),
    shown={
        "anytime.html": Shown("anytime.rst", "Anytime prediction", "networks"),
        "areas.html": Shown("anytime.rst", "Anytime prediction", "areas"),
        **{
            f"figure{n}.svg": Shown("anytime.rst", "Anytime prediction", f"Figure {n}")
            for n in FIGURES
        },
    },
)
def anytime_curves(job: Job) -> None:
    """Make Figures 3, 4 and 8 to 10 and the tables of areas (5.2, 7.5.2).

    It also exports the best network.
    """

    from ghn_pipeline.pipeline import findings
    from ghn_pipeline.pipeline.build import comparable
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.ranking.correlation import Estimate
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.paper import anytime_table, claims, figure3, figure4

    config = job.config
    folder, note, budgets = Path("results", config.scale), config.anytime_note, _budgets(config)
    space, block = stacked(config, "best")
    methods, of_methods = _methods(config, block)
    groups, of_groups = _groups(config)
    confidence = config.correlation.confidence
    found = anytime_table.measure(groups, budgets=budgets, confidence=confidence)
    scale = {"scale": config.scale_in_titles, "scale_note": note}
    areas = anytime_table.groups_table(found, **scale, budgets=budgets, confidence=confidence)
    write(areas, folder / "areas")
    write(anytime_table.methods_table(methods, **scale), folder / "anytime")
    title_note = config.small(note)
    curves = {key: method.curve for key, method in methods.items()}
    # the axis ends here, because an ensemble may cost several times as much
    until = 1.2 * comparable(config)
    save(figure3.figure3(curves, until=until, scale_note=title_note), folder / "figure3")
    # Figure 4 shows as many random networks as top ones, in the paper ten of each
    shown = {key: group.curves[: len(config.anytime.top)] for key, group in groups.items()}
    drawn = figure4.figure4(shown, budgets=budgets, scale_note=title_note)
    save(drawn, folder / "figure4")
    _draw_best(config, space, block, title_note)
    _export_best(config, space, block)
    growth = _growth(config)
    numbers = json.dumps({**anytime_table.metrics(found), "ghn": growth}, indent=1)
    write_atomically(folder / "anytime_curves.json", numbers + "\n")
    if found.difference:
        of_top = claims.found(
            17,
            Estimate(
                *(
                    100 * x
                    for x in (found.difference.value, found.difference.low, found.difference.high)
                )
            ),
            config.scale,
            f"networks after {config.anytime.epochs} epochs, test images",
        )
        findings.write(config, "anytime_curves", [of_top])
    write_provenance(config, "anytime_curves", [*of_groups, *of_methods])
    _report(config, found, growth)


def _groups(config: "Config") -> "tuple[dict[str, Group], list[dict[str, Any]]]":
    """Return the top and random networks, with trained and predicted areas, and the records."""
    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.results import chooser, first_ghn, scored_with, searched
    from ghn_pipeline.report.paper.anytime_table import Group

    scored = scored_with(config, f"scores/{first_ghn(config)}", first_ghn(config))
    ranked = sorted((area for _, area in searched(config, chooser(config))), reverse=True)
    predicted = {"top": ranked, "random": scored["result"]["values"]["area"]}
    groups, made_of = {}, [record.read(config, chooser(config)), scored]
    for group, areas in predicted.items():
        blocks, asked = members(config, group), getattr(config.anytime, group)
        runs = [_of_block(config, f"{group}/{i}", blocks[i]) for i in asked]
        groups[group] = Group([_curve(run) for run in runs], [areas[i] for i in asked])
        made_of += runs
    return groups, made_of


def _methods(config: "Config", block: "Block") -> "tuple[dict[str, Method], list[dict[str, Any]]]":
    """Return the best network, of `block`, and the baselines, and the records."""
    from ghn_pipeline.pipeline import record
    from ghn_pipeline.report.paper.anytime_table import Method

    runs = {"ghn": _of_block(config, "best", block)}
    for name in config.anytime.rivals:
        runs[name] = record.read(config, f"anytime/{name}")
    methods = {key: Method(_curve(run), run["result"]["parameters"]) for key, run in runs.items()}
    return methods, list(runs.values())


def _of_block(config: "Config", name: str, block: "Block") -> dict[str, Any]:
    """Return the record of a training of `block`."""
    from ghn_pipeline.pipeline.results import trained_on

    return trained_on(config, f"anytime/{name}", block)


def _budgets(config: "Config") -> tuple[float, float]:
    from ghn_pipeline.ranking.measures import Area

    assert isinstance(config.evaluation, Area)  # this space allows no other measure
    return config.evaluation.range


def _curve(run: dict[str, Any], images: str = "test") -> "Curve":
    """Return the accuracies measured at the end of a training."""
    from ghn_pipeline.report.paper.curves import Curve

    spent, (measured,) = run["result"]["spent"], run["result"]["measured"].values()
    return Curve(spent, [measured[f"{images}/exit-{k}"] for k in range(1, len(spent) + 1)])


def _draw_best(config: "Config", space: "Anytime", block: "Block", note: str) -> None:
    """Draw Figures 8 to 10, the blocks of the best architecture."""
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.paper.figure8 import figure8

    network = Network(space.modules(block), config.images.resolution)
    for number in range(1, space.blocks + 1):
        drawn = figure8(network, number, scale_note=note)
        save(drawn, Path("results", config.scale, f"figure{7 + number}"))


def _export_best(config: "Config", space: "Anytime", block: "Block") -> None:
    """Write the best network as files, which can be run to any budget."""
    import torch

    from ghn_pipeline import export
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network, Trained
    from ghn_pipeline.pipeline.build import images_of
    from ghn_pipeline.pipeline.results import load_weights

    model = Trained(Network(space.modules(block), config.images.resolution), stream(0))
    load_weights(config, "anytime/best", model)
    images = images_of(config, torch.device("cpu"))
    folder = Path("results", config.scale, "anytime_export")
    export.save(folder, space, block, model, images.mean, images.std)


def _growth(config: "Config") -> dict[str, int]:
    """Return the parameters of the GHN, and those it would have at one scale (section 5.2).

    A GHN for one scale has the same hypernetwork, and no embedding of scales.
    """
    from ghn_pipeline.pipeline.build import untrained
    from ghn_pipeline.pipeline.results import first_ghn

    made = untrained(config, first_ghn(config))
    counts = {name: p.numel() for name, p in made.named_parameters()}
    whole = sum(counts.values())
    return {"parameters": whole, "parameters_at_one_scale": whole - counts["scales.weight"]}


def _report(config: "Config", found: "Found", growth: dict[str, int]) -> None:
    from ghn_pipeline.report.correlations import show

    whole, single = growth["parameters"], growth["parameters_at_one_scale"]
    more = 100 * (whole / single - 1)
    print(f"the GHN has {whole:,} parameters, {more:.3f}% more than for a single scale")
    for group, estimates in found.correlations.items():
        said = ", ".join(f"{name} {show(value)}" for name, value in estimates.items())
        print(f"predicted with trained area, {group}: {said}")
    print(f"see results/{config.scale}/areas.md, anytime.md, figure3.png and figure4.png")
