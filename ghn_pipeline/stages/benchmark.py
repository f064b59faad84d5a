"""The comparison with published accuracies, which is no part of the paper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.stages.shared import (
    CHOSEN_BY,
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    bootstrap_of,
    stage,
)
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.report.extra.benchmark_table import Method, Winner
    from ghn_pipeline.settings.config import Config


@stage(
    "benchmark",
    reads=(
        "architectures",
        "ghn/{correlation.ghns}",
        "scores/ghn/{correlation.ghns}",
        "scores/oneshot",
        "scores/proxies",
        "scores/sgd",
        "oneshot: model.pt run.json",
        f"{CHOSEN_BY}: architectures.json run.json",
    ),
    settings=(
        "scale",
        "benchmark.top",
        "correlation.ghns",
        *INTERVALS,
        "tables",
    ),
    writes=(
        *(f"benchmark{form}" for form in (*TABLE, ".svg", ".png", ".json")),
        *(f"winners{form}" for form in TABLE),
    ),
    root=SCALE,
    chapters=("benchmark",),
    shown={
        "benchmark.html": Shown("benchmark.rst", "Benchmark", "the table"),
        "winners.html": Shown("benchmark.rst", "Benchmark", "the winners"),
        "benchmark.svg": Shown("benchmark.rst", "Benchmark", "the figure"),
    },
)
def benchmark(job: Job) -> None:
    """Compare all rankings with published accuracies; print the correlations."""
    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.results import architectures_of
    from ghn_pipeline.pipeline.spaces import published_of
    from ghn_pipeline.ranking.benchmark import truth
    from ghn_pipeline.report import figure, table
    from ghn_pipeline.report.extra import benchmark_figure, benchmark_table

    config = job.config
    blocks, published = architectures_of(config), published_of(config)
    check_held_out(config, blocks)
    methods, curves, made_of = _methods(config)
    folder, bootstrap = Path("results", config.scale), bootstrap_of(config)
    true = truth(published, blocks, published.first)
    functions, top = [block.hash for block in blocks], config.benchmark.top
    found = benchmark_table.measure(methods, true, bootstrap=bootstrap, top=top, groups=functions)
    made = benchmark_table.benchmark_table(
        methods,
        found,
        published,
        scale_note=config.images_note,
        cells=len(blocks),
        top=top,
        costs=config.tables.costs,
        ranked_by=config.evaluation.shown,
        bootstrap=bootstrap,
        functions=len(set(functions)),
        settings_note=_settings_note(config),
    )
    table.write(made, folder / "benchmark")
    winners, searched = _winners(config)
    ranked = benchmark_table.winners_table(winners, published, scale_note=config.images_note)
    table.write(ranked, folder / "winners")
    drawn = benchmark_figure.benchmark_figure(
        methods,
        found,
        curves,
        published,
        scale_note=config.images_note + _proxies_of(config),
        cells=len(blocks),
        confidence=bootstrap.confidence,
    )
    figure.save(drawn, folder / "benchmark")
    numbers = json.dumps(benchmark_table.metrics(found), indent=1)
    write_atomically(folder / "benchmark.json", numbers + "\n")
    made_of += [record.read(config, "architectures"), searched]
    record.write_provenance(config, "benchmark", made_of)
    print(benchmark_table.summary(found))
    print(f"see {folder}/benchmark.md, {folder}/winners.md and {folder}/benchmark.png")


def check_held_out(config: "Config", blocks: "Sequence[Block]") -> None:
    """Check that no choice was made by the architectures that are reported on.

    Training draws its architectures by `sampler`, which refuses those of `results.held_out`.

    Raises:
        UserError: a test architecture computes the function of one in the selection, or
            `draw_held_out` draws other architectures.
    """
    from ghn_pipeline.pipeline.build import draw_held_out
    from ghn_pipeline.pipeline.results import selection_of

    selection = selection_of(config)
    shared = {b.hash for b in blocks} & {b.hash for b in selection}
    if shared:
        raise UserError(
            f"{len(shared)} test architectures compute the same functions as some of the "
            "selection, so choices depended on them. Run `ghn architectures` again, and then all "
            "later stages."
        )
    if (list(blocks), selection) != draw_held_out(config):
        raise UserError(
            "the architectures are not those that `ghn architectures` draws. Run it again, and "
            "then all later stages."
        )


def _settings_note(config: "Config") -> str:
    """Return the footnote on the settings of the methods."""
    ghn = config.ghns[config.correlation.ghns[0]]
    chosen = (
        "Only the GHN's settings, and what it and the one-shot model rank by, were chosen by the "
        "selection."
        if config.correlation.selection
        else "No selection was drawn to choose settings by."
    )
    return (
        f"Epochs: {ghn.epochs} of a GHN, {config.oneshot.epochs} of the one-shot model. {chosen} "
        "Zero-cost proxies: of initial weights, on one batch of "
        f"{config.proxies.batch} images{_proxies_of(config)}."
    )


def _proxies_of(config: "Config") -> str:
    """Return the networks of the proxies in words, "" if they are those of the scale."""
    own = config.of_proxies
    return "" if own == config else f"; proxies of {own.network_note.partition(': ')[2]}"


Curves = Mapping[str, list[tuple[int, float]]]


def _methods(config: "Config") -> "tuple[dict[str, Method], Curves, list[dict[str, Any]]]":
    """Return each method's predictions and costs, the GHNs' learning curves, and all records."""
    import numpy as np

    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.results import UNTRAINED, scored_with
    from ghn_pipeline.ranking.proxies import vote
    from ghn_pipeline.report.extra.benchmark_table import ENSEMBLE, GHN, LIKELIHOOD, Method

    _check_seeds(config)
    names = [f"ghn/{name}" for name in config.correlation.ghns]
    trained = {m: record.read(config, m) for m in (*names, "oneshot")}
    scored = {m: scored_with(config, f"scores/{m}", m) for m in (*trained, *UNTRAINED)}

    def predicted(model: str, measure: str = config.evaluation.measure) -> "np.ndarray":
        return np.array(scored[model]["result"]["values"][measure])

    def each(model: str, measure: str = "accuracy") -> float:
        return float(scored[model]["result"]["seconds_each"][measure])

    ghns = [predicted(name) for name in names]
    initial = [trained[name]["accelerator_seconds"] for name in names]
    costs = float(np.mean(initial)), float(np.mean([each(name) for name in names]))
    methods = {
        GHN: Method(ghns, *costs),
        ENSEMBLE: Method([np.mean(ghns, axis=0)], sum(initial), sum(each(name) for name in names)),
        "oneshot": Method(
            [predicted("oneshot")], trained["oneshot"]["accelerator_seconds"], each("oneshot")
        ),
    }
    for name in UNTRAINED:
        for measure in scored[name]["result"]["values"]:
            methods[measure] = Method([predicted(name, measure)], None, each(name, measure))
    if simpler := config.evaluation.held_against:
        alone = [predicted(name, simpler) for name in names]
        methods[LIKELIHOOD] = Method(alone, costs[0], None)
    voted = vote(scored["proxies"]["result"]["values"])
    methods["vote"] = Method([voted], None, None)
    curves = {
        name: [
            (int(step), measured["spearman"])
            for step, measured in trained[name]["result"]["measured"].items()
            if "spearman" in measured
        ]
        for name in names
    }
    return methods, curves, [*trained.values(), *scored.values()]


def _check_seeds(config: "Config") -> None:

    ghns = {name: config.ghns[name] for name in config.correlation.ghns}
    if len({repr(ghn.model_dump(exclude={"seed"})) for ghn in ghns.values()}) > 1:
        raise UserError(
            f"the benchmark averages one GHN over seeds, and {', '.join(ghns)} differ in more than "
            "their seed. List in correlation.ghns only GHNs that differ in their seed, and give "
            "the others a scale of their own."
        )


def _winners(config: "Config") -> "tuple[list[Winner], dict[str, Any]]":
    """Return the random search's best architectures, ranked among all published ones."""
    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.results import chooser, searched
    from ghn_pipeline.pipeline.spaces import published_of
    from ghn_pipeline.ranking.benchmark import standing
    from ghn_pipeline.report.extra.benchmark_table import Winner

    found, published = searched(config, chooser(config)), published_of(config)
    winners = []
    # the first thousand of a longer random search are a random search of a thousand
    for count in sorted({min(1000, len(found)), len(found)}):
        best, _ = max(found[:count], key=lambda entry: entry[1])
        for dataset, name in published.datasets.items():
            at = standing(published, best, dataset)
            search = f"random search of {count:,} evaluations"
            winners.append(Winner(search, name, at.key, at.accuracy, at.rank, at.best))
    return winners, record.read(config, chooser(config))
