"""What the sections of a configuration must say together; every fault in a line of its own."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from ghn_pipeline.settings.sections import (
    OPERATIONS_OF,
    OWN_SETTINGS,
    Ablations,
    Anytime,
    Benchmark,
    Compute,
    Correlation,
    Evaluation,
    Finalists,
    Ghn,
    Images,
    Macro,
    Mobile,
    Proxies,
    Recipe,
    Schedule,
    Search,
    Sgd,
    Space,
)
from ghn_pipeline.space.anytime import sizes
from ghn_pipeline.system.errors import did_you_mean

MOST_NODES = 20_000  # of all blocks of a network together; the paper's has 306


def _validation_images(evaluation: Evaluation, images: Images) -> list[str]:
    asked = f"{evaluation.batches} batches of {evaluation.batch}"
    enough = evaluation.batch * evaluation.batches <= images.validation
    return [] if enough else [f"evaluation: {asked} are more than images.validation"]


def _batches(images: Images, ghn: Ghn, oneshot: Schedule, sgd: Sgd) -> list[str]:
    sizes = {"ghn": ghn.batch, "oneshot": oneshot.batch, "sgd": sgd.batch}
    return [f"{n}.batch: more than images.train" for n, b in sizes.items() if b > images.train]


def _changed_batches(images: Images, ghn: Ghn, ghns: dict[str, Ghn]) -> list[str]:
    return [
        f"ghns.{name}.batch: more than images.train"
        for name, one in ghns.items()
        if one.batch != ghn.batch and one.batch > images.train
    ]


def _early_steps(correlation: Correlation, proxies: Proxies, images: Images, sgd: Sgd) -> list[str]:
    steps = sgd.epochs * (images.train // sgd.batch)
    asked = {"correlation.steps": correlation.steps, "proxies.steps": proxies.steps}
    return [
        f"{key}: SGD ends after {steps} steps (sgd.epochs), before {late}"
        for key, values in asked.items()
        if (late := [k for k in values if k > steps])
    ]


def _reductions(network: Macro, images: Images, proxies: Proxies) -> list[str]:
    faults = _stacked("network", network, "images.resolution", images.resolution)
    if proxies.network or proxies.resolution:
        key = "proxies.network" if proxies.network else "network"
        of = "proxies.resolution" if proxies.resolution else "images.resolution"
        side = proxies.resolution or images.resolution
        faults += _stacked(key, proxies.network or network, of, side)
    return list(dict.fromkeys(faults))


def _modules(space: Space, network: Macro, proxies: Proxies) -> list[str]:
    """As many modules as a network of such a size has take all memory before any training."""
    stacks = {"network": network, "proxies.network": proxies.network or network}
    return [
        f"{key}.blocks: with space.nodes these are {count:,} nodes, more than {MOST_NODES:,}"
        for key, stack in stacks.items()
        if (count := stack.blocks * space.nodes) > MOST_NODES
        if key == "network" or proxies.network
    ]


def _stacked(key: str, network: Macro | Mobile, of: str, resolution: int) -> list[str]:
    faults = []
    if any(r > network.blocks for r in network.reductions):
        faults.append(f"{key}.reductions: there are only {network.blocks} blocks")
    if resolution < 2 ** len(network.reductions):
        faults.append(f"{key}.reductions: too many for {of}")
    return faults


def _operations(space: Space) -> list[str]:
    faults = []
    if len(set(space.operations)) < len(space.operations):
        faults.append("space.operations: an operation is listed twice")
    known = OPERATIONS_OF[space.name]
    if others := [op for op in space.operations if op not in known]:
        faults.append(f"space.operations: {space.name} has no {', '.join(others)}")
    return faults


def _operation_weights(space: Space, ghn: Ghn, ghns: dict[str, Ghn]) -> list[str]:
    own = {n: g for n, g in ghns.items() if g.operation_weights != ghn.operation_weights}
    named = {"ghn": ghn, **{f"ghns.{name}": one for name, one in own.items()}}
    return [
        f"{key}.operation_weights: {op} is not in space.operations"
        f"{did_you_mean(op, space.operations)}"
        for key, settings in named.items()
        for op in settings.operation_weights
        if op not in space.operations
    ]


def _own_settings(space: Space) -> list[str]:
    own = OWN_SETTINGS[space.name]
    return [
        f"space.{key}: must be {'a number' if key in own else 'null'} for the space {space.name}"
        for key in sorted(set().union(*OWN_SETTINGS.values()))
        if (getattr(space, key) is None) == (key in own)
    ]


def _budgets(space: Space, evaluation: Evaluation) -> list[str]:
    faults = []
    if (evaluation.budgets is None) != (space.exits is None):
        what = "a range where there are exits" if space.exits else "null where there are no exits"
        faults.append(f"evaluation.budgets: must be {what} (space.exits)")
    if evaluation.budgets and evaluation.budgets[0] >= evaluation.budgets[1]:
        faults.append("evaluation.budgets: must be the lower and then the higher end of a range")
    if (evaluation.measure == "area") != (space.exits is not None):
        what = "area" if space.exits else "accuracy, likelihood or flow"
        faults.append(f"evaluation.measure: must be {what} for the space {space.name}")
    return faults


def _flow(evaluation: Evaluation) -> list[str]:
    if (evaluation.measure == "flow") == (evaluation.flow is not None):
        return []
    what = "a power" if evaluation.measure == "flow" else "null"
    return [f"evaluation.flow: must be {what} where evaluation.measure is {evaluation.measure}"]


def _exits(space: Space, network: Macro) -> list[str]:
    if space.exits is None:
        return []
    faults = []
    nodes = sum(sizes(space.nodes, network.blocks))
    if space.exits > nodes:
        faults.append(f"space.exits: more than the {nodes} nodes of all blocks")
    if network.blocks != 3:
        faults.append("network.blocks: must be 3 for the space anytime, as in Figures 8 to 10")
    if network.reductions != [2, 3]:
        faults.append("network.reductions: must be [2, 3] for the space anytime (section 7.1)")
    return faults


def _anytime(
    anytime: Anytime, space: Space, images: Images, correlation: Correlation, search: Search
) -> list[str]:
    if space.exits is None:
        return []
    there = {
        "top": (anytime.top, search.evaluations, "search.evaluations"),
        "random": (anytime.random, correlation.drawn, "correlation.drawn"),
    }
    faults = [
        f"anytime.{key}: {max(asked)} is not below {limit} ({of})"
        for key, (asked, limit, of) in there.items()
        if max(asked) >= limit
    ]
    faults += [
        f"anytime.{key}: something is listed twice"
        for key in ("top", "random", "rivals")
        if len(set(getattr(anytime, key))) < len(getattr(anytime, key))
    ]
    if anytime.batch > images.train:
        faults.append("anytime.batch: more than images.train")
    if max(anytime.resnet_mc.exits, default=0) > anytime.resnet_mc.blocks:
        faults.append("anytime.resnet_mc.exits: there are only anytime.resnet_mc.blocks blocks")
    if max(anytime.densenet_mc.exits, default=0) > anytime.densenet_mc.layers:
        faults.append("anytime.densenet_mc.exits: there are only anytime.densenet_mc.layers layers")
    return faults


def _stem(space: Space, network: Macro, proxies: Proxies) -> list[str]:
    """The first cell of NAS-Bench-201 sums what the stem puts out with what it makes of it."""
    stacks = {"network": network, "proxies.network": proxies.network or network}
    return [
        f"{key}.stem_multiplier: must be 1 for nasbench201"
        for key, stack in stacks.items()
        if space.name == "nasbench201" and stack.stem_multiplier > 1
        if key == "network" or proxies.network
    ]


def _published(space: Space, correlation: Correlation, benchmark: Benchmark) -> list[str]:
    faults = []
    if correlation.selection and space.name != "nasbench201":
        faults.append(
            f"correlation.selection: must be 0 for the space {space.name}, of which no accuracies "
            "are published to choose by"
        )
    if space.name == "nasbench201" and space.nodes > 3:
        faults.append("space.nodes: a cell of nasbench201 has 2 or 3")
    if benchmark.curve and (space.name, space.nodes) != ("nasbench201", 3):
        faults.append(
            "benchmark.curve: must be 0, for accuracies are published of nasbench201 with 3 nodes"
        )
    elif benchmark.curve and correlation.selection < 3:
        faults.append("benchmark.curve: a correlation needs 3 or more of correlation.selection")
    return faults


def _drawn(correlation: Correlation) -> list[str]:
    more = len(correlation.architectures) > correlation.drawn
    return ["correlation.architectures: more than correlation.drawn"] if more else []


def _curve(benchmark: Benchmark, images: Images) -> list[str]:
    more = benchmark.images > images.validation
    return ["benchmark.images: more than images.validation"] if benchmark.curve and more else []


def _proxies(proxies: Proxies, images: Images, space: Space) -> list[str]:
    faults = ["proxies.batch: more than images.train"] if proxies.batch > images.train else []
    if space.name != "nasbench201" and (proxies.network or proxies.resolution):
        # Table 4 has no place to say so
        faults.append(f"proxies: network and resolution must be null for the space {space.name}")
    return faults


def _warmup(ghns: dict[str, Ghn], images: Images, correlation: Correlation) -> list[str]:
    trained = {name: ghns[name] for name in correlation.ghns if name in ghns}
    return [
        f"ghns.{name}.warmup: {one.warmup} steps are more than all of the training"
        for name, one in trained.items()
        if one.warmup > one.epochs * (images.train // one.batch)
    ]


def _time_to_stop(compute: Compute) -> list[str]:
    late = compute.stop_seconds >= 60 * compute.minutes
    return ["compute.stop_seconds: no less than all of compute.minutes"] if late else []


def _named_ghns(correlation: Correlation, ghns: dict[str, Ghn]) -> list[str]:
    faults = [
        f"correlation.ghns: {n!r} is not in `ghns`{did_you_mean(n, ghns)}"
        for n in correlation.ghns
        if n not in ghns
    ]
    if len(set(correlation.ghns)) < len(correlation.ghns):
        faults.append("correlation.ghns: a GHN is listed twice")
    return faults


def _numbered(correlation: Correlation) -> list[str]:
    count = len(correlation.architectures)
    if correlation.architectures == list(range(count)):
        return []
    return [f"correlation.architectures: {count} are numbered 0 to {count - 1}, in this order"]


def _ablations(ablations: Ablations, correlation: Correlation, ghns: dict[str, Ghn]) -> list[str]:
    """The GHNs of one figure or table that are trained differ in nothing but what it shows."""
    shown = {
        "figure5a": ("nodes",),
        "figure5b": ("passes", "scheme"),
        "table5": ("share_parameters", "pass_embeddings"),
    }
    faults = []
    for part, keys in shown.items():
        names: list[str] = getattr(ablations, part)
        faults += [
            f"ablations.{part}: {n!r} is not in `ghns`{did_you_mean(n, ghns)}"
            for n in names
            if n not in ghns
        ]
        made = [ghns[n] for n in names if n in ghns and n in correlation.ghns]
        if len({repr(g.model_dump(exclude=set(keys))) for g in made}) > 1:
            faults.append(f"ablations.{part}: its GHNs differ in more than {' and '.join(keys)}")
        if len({repr(g) for g in made}) < len(made):
            faults.append(f"ablations.{part}: two of its GHNs are the same")
    return faults


def _search(search: Search) -> list[str]:
    faults = []
    if len(set(search.seeds)) < len(search.seeds):
        faults.append("search.seeds: one is listed twice")
    if search.sample > search.population:
        faults.append("search.sample: more than search.population")
    if search.population > search.evaluations:
        faults.append("search.population: more than search.evaluations")
    return faults


def _recipe(name: str, recipe: Recipe) -> list[str]:
    faults = []
    if recipe.batch % recipe.norm_batch:
        faults.append(f"{name}.norm_batch: does not divide {name}.batch")
    elif recipe.together // recipe.norm_batch % recipe.processes:
        faults.append(
            f"{name}.processes: cannot share out evenly the {recipe.together // recipe.norm_batch} "
            f"groups of {name}.norm_batch images in a step of all workers"
        )
    if recipe.processes % recipe.nodes:
        faults.append(f"{name}.processes: not the same number on each of {name}.nodes")
    if recipe.warmup_epochs > recipe.epochs:
        faults.append(f"{name}.warmup_epochs: more than {name}.epochs")
    return faults


def _finalists(finalists: Finalists, search: Search, images: Images) -> list[str]:
    faults = _recipe("finalists", finalists)
    for name, values in (("ranks", finalists.ranks), ("seeds", finalists.seeds)):
        if len(set(values)) < len(values):
            faults.append(f"finalists.{name}: one is listed twice")
    if max(finalists.ranks) >= search.evaluations:
        faults.append("finalists.ranks: there are only as many as search.evaluations")
    if finalists.together > images.train:
        faults.append("finalists.batch: of all workers together more than images.train")
    return faults


def _mobile(mobile: Mobile) -> list[str]:
    side = mobile.resolution // mobile.stem_stride
    return _recipe("mobile", mobile) + _stacked("mobile", mobile, "mobile.resolution", side)


#: What sections must say together, each a function of the sections that its parameters name.
_AGREEMENTS: list[Callable[..., list[str]]] = [
    _validation_images,
    _batches,
    _changed_batches,
    _reductions,
    _modules,
    _operations,
    _operation_weights,
    _own_settings,
    _budgets,
    _flow,
    _exits,
    _anytime,
    _stem,
    _published,
    _curve,
    _proxies,
    _warmup,
    _time_to_stop,
    _named_ghns,
    _search,
]
#: Likewise, of the chapters that a space with exits has not.
_OF_ONE_EXIT: list[Callable[..., list[str]]] = [
    _early_steps,
    _drawn,
    _numbered,
    _ablations,
    _finalists,
    _mobile,
]


def disagreements(sections: Mapping[str, Any]) -> list[str]:
    """Return the faults between those sections that are themselves whole."""
    faults = []
    others = [] if "space" not in sections or sections["space"].exits else _OF_ONE_EXIT
    for agreement in _AGREEMENTS + others:
        needed = signature(agreement).parameters
        if all(name in sections for name in needed):
            faults += agreement(**{name: sections[name] for name in needed})
    return faults
