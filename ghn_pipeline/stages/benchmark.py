"""The comparison with published accuracies, which is no part of the paper."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ghn_pipeline.stages.correlation import scale_of
from ghn_pipeline.stages.shared import (
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    stage,
)
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.ranking.methods import Comparison, Method
    from ghn_pipeline.report.extra.benchmark_table import Winner
    from ghn_pipeline.report.paper.claims import Finding
    from ghn_pipeline.settings.config import Config


@stage(
    "benchmark",
    reads=(
        "architectures",
        "ghn/{first_ghns}",
        "scores/ghn/{first_ghns}",
        "oneshot/{oneshots}",
        "scores/oneshot/{oneshots}",
        "scores/proxies: run.json",
        "scores/sgd: run.json",
        "search/random/{search.seeds}",
    ),
    settings=(
        "scale",
        "benchmark.top",
        "finalists.ranks",
        "search.seeds",
        "correlation.selection",
        *INTERVALS,
        "tables",
    ),
    writes=(
        *(f"benchmark{form}" for form in (*TABLE, ".svg", ".png", ".json", ".findings.json")),
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
    from ghn_pipeline.pipeline import findings, record
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.pipeline.results import architectures_of
    from ghn_pipeline.pipeline.spaces import published_of
    from ghn_pipeline.report import figure, table
    from ghn_pipeline.report.extra import benchmark_figure, benchmark_table

    config = job.config
    blocks, published = architectures_of(config), published_of(config)
    check_held_out(config, blocks)
    ranked, top = Rankings(config), config.benchmark.top
    methods = _methods(ranked)
    folder, confidence = Path("results", config.scale), config.correlation.confidence
    comparison = ranked.compare(methods)
    found = benchmark_table.measure(comparison, top)
    made = benchmark_table.benchmark_table(
        methods,
        found,
        published,
        scale_note=config.images_note,
        cells=len(blocks),
        top=top,
        costs=config.tables.costs,
        ranked_by=config.evaluation.shown,
        confidence=confidence,
        functions=len(set(ranked.hashes)),
        settings_note=_settings_note(config),
    )
    table.write(made, folder / "benchmark")
    winners = benchmark_table.winners_table(
        _winners(config), published, scale_note=config.images_note
    )
    table.write(winners, folder / "winners")
    drawn = benchmark_figure.benchmark_figure(
        methods,
        found,
        _curves(config),
        published,
        scale_note=config.images_note + _proxies_of(config),
        cells=len(blocks),
        confidence=confidence,
    )
    figure.save(drawn, folder / "benchmark")
    numbers = json.dumps(benchmark_table.metrics(found), indent=1)
    write_atomically(folder / "benchmark.json", numbers + "\n")
    findings.write(config, "benchmark", _findings(ranked, comparison))
    searches = [record.read(config, f"search/random/{seed}") for seed in config.search.seeds]
    record.write_provenance(config, "benchmark", [*ranked.made_of, *searches])
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
    chosen = (
        "Only the GHN's settings, and what it and the one-shot model rank by, were chosen by the "
        "selection."
        if config.correlation.selection
        else "No selection was drawn to choose settings by."
    )
    return (
        f"{chosen} Zero-cost proxies: of initial weights, on one batch of "
        f"{config.proxies.batch} images{_proxies_of(config)}."
    )


def _proxies_of(config: "Config") -> str:
    """Return the networks of the proxies in words, "" if they are those of the scale."""
    own = config.of_proxies
    return "" if own == config else f"; proxies of {own.network_note.partition(': ')[2]}"


def _methods(ranked: "Rankings") -> "dict[str, Method]":
    """Return the methods by their keys in the table; the first GHN stands for GHNs."""
    import numpy as np

    from ghn_pipeline.ranking.methods import Method
    from ghn_pipeline.ranking.proxies import vote
    from ghn_pipeline.report.correlations import GHN
    from ghn_pipeline.report.extra.benchmark_table import ENSEMBLE

    found, proxies = ranked.models(ranked.config.evaluation.measure), ranked.untrained("proxies")
    one, seeds = found[GHN], len(found[GHN].predictions)
    if seeds > 1:
        initial, each = (
            None if of_one is None else seeds * of_one
            for of_one in (one.initial_seconds, one.each_seconds)
        )
        mean = np.mean(one.predictions, axis=0)
        found[ENSEMBLE] = Method([mean], initial, each, one.given, one.labels)
    voted = vote({name: of.predictions[0].tolist() for name, of in proxies.items()})
    return {
        **found,
        **ranked.untrained("sgd"),
        **proxies,
        "vote": Method([voted], None, None, next(iter(proxies.values())).given),
    }


def _curves(config: "Config") -> dict[str, list[tuple[int, float]]]:
    """Return the learning curves of the first GHN, one of each seed."""
    from ghn_pipeline.pipeline import record

    runs = {name: record.read(config, f"ghn/{name}") for name in config.first_ghns}
    return {
        name: [
            (int(step), measured["spearman"])
            for step, measured in run["result"]["measured"].items()
            if "spearman" in measured
        ]
        for name, run in runs.items()
    }


def _findings(ranked: "Rankings", comparison: "Comparison[str]") -> "list[Finding]":
    """Return the findings about the paper's claims, against published accuracies."""
    from ghn_pipeline.report.paper.effects import of_costs, of_rankings

    config = ranked.config

    def named(key: str) -> tuple[str, str]:
        of, _, by = key.partition("/")
        return of, by or config.evaluation.measure

    scale = scale_of(ranked, comparison.renamed(named))
    found = [*of_rankings(scale), *_search_findings(ranked)]
    if config.tables.costs:
        found += of_costs(scale, ranked.costs(config.search.evaluations))
    return found


def _search_findings(ranked: "Rankings") -> "list[Finding]":
    """Return the findings about claim 14: the best of each search less its first, random ones.

    Beside it stand those with the most parameters of what each search drew.
    """
    import numpy as np

    from ghn_pipeline.pipeline.results import searched
    from ghn_pipeline.pipeline.spaces import parameters, published_of
    from ghn_pipeline.ranking.benchmark import truth
    from ghn_pipeline.ranking.intervals import mean_of
    from ghn_pipeline.report.paper.claims import found

    config = ranked.config
    published = published_of(config)
    count, seeds = len(config.finalists.ranks), config.search.seeds
    ahead: dict[str, list[float]] = {"by weights of the first GHN": [], "by parameters": []}
    for seed in seeds:
        drawn = searched(config, f"search/random/{seed}")
        blocks, scores = zip(*drawn, strict=True)
        accuracies = truth(published, blocks, published.first)
        for by, values in zip(ahead, (np.array(scores), parameters(config, blocks)), strict=True):
            best = np.argsort(-values, kind="stable")[:count]
            ahead[by].append(100 * float(accuracies[best].mean() - accuracies[:count].mean()))
    said = f"top {count} of {config.search.evaluations:,}, {len(seeds)} searches"
    return [
        found(
            14,
            mean_of(np.array(values), config.correlation.confidence),
            config.scale,
            f"accuracies of {published.title}, as published",
            by=f"{said}, {by}",
            main=by != "by parameters",
        )
        for by, values in ahead.items()
    ]


def _winners(config: "Config") -> "list[Winner]":
    """Return the random search's best architectures, ranked among all published ones."""
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
    return winners
