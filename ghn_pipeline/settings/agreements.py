"""Checks of the sections of a configuration against one another; each fault is one line."""

from collections import Counter
from collections.abc import Iterator, Mapping
from inspect import signature
from itertools import pairwise
from typing import Any

from ghn_pipeline.ranking.measures import MEASURES, Measure
from ghn_pipeline.settings.sections import (
    Ablations,
    Benchmark,
    Correlation,
    Evaluation,
    Finalists,
    Ghn,
    Images,
    Macro,
    Proxies,
    Schedule,
    Search,
    Section,
    Sgd,
)
from ghn_pipeline.spaces.space import Agreement, SpaceSettings
from ghn_pipeline.system.errors import did_you_mean

MOST_NODES = 20_000  # in all blocks of a network together; the paper's has 306


def _validation_images(evaluation: Evaluation, images: Images) -> list[str]:
    asked = f"{evaluation.batches} batches of {evaluation.batch}"
    enough = evaluation.batch * evaluation.batches <= images.validation
    return [] if enough else [f"evaluation: {asked} are more than images.validation"]


def _own(
    key: str, training: Schedule, ghn: Ghn, ghns: dict[str, Ghn], oneshot: Schedule
) -> dict[str, Any]:
    """Return the values of a setting of trainings by its path, without those that are inherited."""
    found = {"training": (training, None), "ghn": (ghn, training), "oneshot": (oneshot, training)}
    found |= {f"ghns.{name}": (one, ghn) for name, one in ghns.items()}
    return {
        f"{path}.{key}": getattr(one, key)
        for path, (one, base) in found.items()
        if base is None or getattr(one, key) != getattr(base, key)
    }


def _seeds(training: Schedule, ghn: Ghn, ghns: dict[str, Ghn], oneshot: Schedule) -> list[str]:
    of = _own("seeds", training, ghn, ghns, oneshot)
    return [
        f"{path}: an entry is listed twice"
        for path, seeds in of.items()
        if len(set(seeds)) < len(seeds)
    ]


def _batches(
    images: Images,
    training: Schedule,
    ghn: Ghn,
    ghns: dict[str, Ghn],
    oneshot: Schedule,
    sgd: Sgd,
) -> list[str]:
    sizes = _own("batch", training, ghn, ghns, oneshot) | {"sgd.batch": sgd.batch}
    return [f"{path}: more than images.train" for path, n in sizes.items() if n > images.train]


def _drawn(correlation: Correlation) -> list[str]:
    sizes = ("repeats", "architectures", "drawn")
    return [
        f"correlation.{less}: more than correlation.{more}"
        for less, more in pairwise(sizes)
        if getattr(correlation, less) > getattr(correlation, more)
    ]


def _early_steps(correlation: Correlation, images: Images, sgd: Sgd) -> list[str]:
    steps = sgd.epochs * (images.train // sgd.batch)
    late = [k for k in correlation.steps if k > steps]
    ends = f"correlation.steps: SGD ends after {steps} steps (sgd.epochs), before {late}"
    return [ends] if late else []


def stacks(network: Macro, proxies: Proxies) -> dict[str, Macro]:
    """Return the stacks of blocks of a configuration, by their path."""
    return {"network": network} | ({"proxies.network": proxies.network} if proxies.network else {})


def _reductions(network: Macro, images: Images, proxies: Proxies) -> list[str]:
    given = {"network": (network, "images.resolution", images.resolution)}
    if proxies.network or proxies.resolution:
        key = "proxies.network" if proxies.network else "network"
        of = "proxies.resolution" if proxies.resolution else "images.resolution"
        given[key] = (proxies.network or network, of, proxies.resolution or images.resolution)
    return [
        f"{key}.reductions: too many for {of}"
        for key, (stack, of, side) in given.items()
        if side < 2 ** len(stack.reductions)
    ]


def _modules(space: SpaceSettings, network: Macro, proxies: Proxies) -> list[str]:
    """Return a fault for each network whose modules alone would fill the memory."""
    return [
        f"{key}.blocks: with space.nodes these are {count:,} nodes, more than {MOST_NODES:,}"
        for key, stack in stacks(network, proxies).items()
        if (count := stack.blocks * space.nodes) > MOST_NODES
    ]


def _operation_weights(
    space: SpaceSettings,
    training: Schedule,
    ghn: Ghn,
    ghns: dict[str, Ghn],
    oneshot: Schedule,
) -> list[str]:
    return [
        f"{path}: {op} is not in space.operations{did_you_mean(op, space.operations)}"
        for path, weights in _own("operation_weights", training, ghn, ghns, oneshot).items()
        for op in weights
        if op not in space.operations
    ]


def _measure(space: SpaceSettings, evaluation: Measure) -> list[str]:
    if evaluation.of_exits == (space.exits is not None):
        return []
    *others, last = (n for n, m in MEASURES.items() if m.of_exits == (space.exits is not None))
    known = f"{', '.join(others)} or {last}" if others else last
    return [f"evaluation.measure: must be {known} for the space {space.name}"]


def _published(
    space: SpaceSettings, correlation: Correlation, benchmark: Benchmark, proxies: Proxies
) -> list[str]:
    """Return the faults of settings that need published accuracies."""
    if "benchmark" in space.chapters:
        return []
    lacks = f"for the space {space.name}, which has no published accuracies"
    faults = []
    if correlation.selection:
        faults.append(f"correlation.selection: must be 0 {lacks} to choose by")
    if benchmark.curve:
        faults.append(f"benchmark.curve: must be 0 {lacks}")
    if proxies.network or proxies.resolution:  # Table 4 has no footnote on them
        faults.append(f"proxies: network and resolution must be null for the space {space.name}")
    return faults


def _table(space: SpaceSettings, benchmark: Benchmark) -> list[str]:
    if space.table and not benchmark.table:
        return [f"benchmark.table: must name a file for the space {space.name}. {space.table}"]
    more = benchmark.table and not space.table
    return [f'benchmark.table: must be "" for the space {space.name}'] if more else []


def _curve(benchmark: Benchmark, images: Images) -> list[str]:
    more = benchmark.images > images.validation
    return ["benchmark.images: more than images.validation"] if benchmark.curve and more else []


def _proxies(proxies: Proxies, images: Images) -> list[str]:
    return ["proxies.batch: more than images.train"] if proxies.batch > images.train else []


def _warmup(
    ghns: dict[str, Ghn], oneshot: Schedule, images: Images, correlation: Correlation
) -> list[str]:
    trained = {f"ghns.{name}": ghns[name] for name in correlation.ghns if name in ghns}
    return [
        f"{path}.warmup: {one.warmup} steps are more than the whole training has"
        for path, one in {**trained, "oneshot": oneshot}.items()
        if one.warmup > one.epochs * (images.train // one.batch)
    ]


def _named_ghns(correlation: Correlation, ghns: dict[str, Ghn]) -> list[str]:
    names = Counter(name for of, ghn in ghns.items() for name in ghn.each(of))
    twice = [name for name, count in names.items() if count > 1]
    return _unknown("correlation.ghns", correlation.ghns, ghns) + [
        f"ghns: {name} is the name of two GHNs (a further seed has the name NAME-SEED)"
        for name in twice
    ]


def _unknown(key: str, names: list[str], ghns: dict[str, Ghn]) -> list[str]:
    unknown = [n for n in names if n not in ghns]
    return [f"{key}: {n!r} is not in `ghns`{did_you_mean(n, ghns)}" for n in unknown]


def _ablations(ablations: Ablations, correlation: Correlation, ghns: dict[str, Ghn]) -> list[str]:
    """Return a fault if the trained GHNs of a figure or table differ in more than it shows."""
    shown = {
        "figure5a": ("nodes",),
        "figure5b": ("passes", "scheme"),
        "table5": ("share_parameters", "pass_embeddings"),
    }
    faults = []
    for part, keys in shown.items():
        names: list[str] = getattr(ablations, part)
        faults += _unknown(f"ablations.{part}", names, ghns)
        made = [ghns[n] for n in names if n in ghns and n in correlation.ghns]
        if len({repr(g.model_dump(exclude=set(keys))) for g in made}) > 1:
            faults.append(f"ablations.{part}: its GHNs differ in more than {' and '.join(keys)}")
        if len({repr(g) for g in made}) < len(made):
            faults.append(f"ablations.{part}: two of its GHNs are the same")
    return faults


def _finalists(finalists: Finalists, search: Search, images: Images) -> list[str]:
    faults = []
    if max(finalists.ranks) >= search.evaluations:
        faults.append("finalists.ranks: must be below search.evaluations")
    if finalists.together > images.train:
        faults.append("finalists.batch: for all workers together more than images.train")
    return faults


#: The checks; the parameters of each function name the sections that it reads.
_AGREEMENTS: list[Agreement] = [
    _validation_images,
    _seeds,
    _batches,
    _reductions,
    _modules,
    _operation_weights,
    _measure,
    _published,
    _table,
    _curve,
    _proxies,
    _warmup,
    _named_ghns,
]
#: The checks that apply only to spaces with a chapter, by the chapter.
_OF_CHAPTERS: dict[str, list[Agreement]] = {
    "correlation": [_drawn, _early_steps],
    "benchmark": [_early_steps],
    "ablations": [_drawn, _ablations],
    "architecture_search": [_finalists],
}


def disagreements(sections: Mapping[str, Any]) -> list[str]:
    """Return the faults within and between those sections that have no invalid setting."""
    space: SpaceSettings | None = sections.get("space")
    asked = [*_AGREEMENTS, *(space.agreements if space else ())]
    for chapter in space.chapters if space else ():
        asked += [each for each in _OF_CHAPTERS.get(chapter, ()) if each not in asked]
    return [fault for name, value in sections.items() for fault in _within(name, value)] + [
        fault
        for agreement in asked
        if (needed := signature(agreement).parameters.keys()) <= sections.keys()
        for fault in agreement(**{name: sections[name] for name in needed})
    ]


def _within(path: str, value: Any) -> Iterator[str]:
    """Yield the faults of a section and of the sections in it."""
    if isinstance(value, Section):
        yield from (f"{path}.{fault}" for fault in value.faults())
        for key, inner in value:
            yield from _within(f"{path}.{key}", inner)
