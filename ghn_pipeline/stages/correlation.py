"""Predicted and true accuracies: Table 4 and Figure 6 (5.3, 7.4); Figure 5 and Table 5 (5.4)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.report.table import write
from ghn_pipeline.stages import scoring
from ghn_pipeline.stages.shared import (
    DRAWN,
    INITIAL,
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    stage,
)
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.ranking.methods import Comparison, Correlations, Method
    from ghn_pipeline.report.paper.claims import Finding
    from ghn_pipeline.report.paper.effects import Scale
    from ghn_pipeline.report.paper.figure5 import Point
    from ghn_pipeline.settings.config import Config


#: Architectures over which the weights of consecutive blocks are compared.
COMPARED = 20
#: The figures and the table of section 5.4.
PARTS = ("figure5a", "figure5b", "table5")


@stage(
    "scores/ghn/NAME",
    result="Scores",
    reads=("data", DRAWN, "ghn/{part}: model.pt run.json"),
    settings=("evaluation",),
    each="trained",
    known="models",
    writes=("scores.csv",),
    needs="scoring",
    costs=lambda config, part: costs.scoring(
        config, "ghn", config.models[part], config.correlation.drawn
    ),
)
@stage(
    "scores/oneshot/SEED",
    result="Scores",
    reads=("data", DRAWN, "oneshot/{part}: model.pt run.json"),
    settings=("evaluation",),
    each="oneshots",
    writes=("scores.csv",),
    needs="scoring",
    costs=lambda config, _: costs.scoring(
        config, "oneshot", config.oneshot, config.correlation.drawn
    ),
    chapters=("correlation", "benchmark"),
)
@stage(
    "scores/proxies",
    result="Scores",
    reads=("data", DRAWN),
    settings=(
        *INITIAL,
        "evaluation.together",
        "proxies.batch",
        "proxies.network",
        "proxies.resolution",
    ),
    writes=("scores.csv",),
    needs="scoring",
    chapters=("correlation", "benchmark"),
)
@stage(
    "scores/sgd",
    result="Scores",
    reads=("data", DRAWN),
    settings=(
        *INITIAL,
        "sgd",
        "correlation.steps",
        "evaluation.batch",
        "evaluation.batches",
        "evaluation.together",
    ),
    writes=("scores.csv",),
    needs="scoring",
    chapters=("correlation", "benchmark"),
)
def scores(job: Job) -> None:
    """Score the test architectures by a GHN, the one-shot model or a baseline (5.3).

    Architectures that compute the same function share one score. The proxies score each
    architecture, because the size of a network includes operations that compute nothing.
    """
    import pandas as pd

    from ghn_pipeline.pipeline import tracking
    from ghn_pipeline.pipeline.results import architectures_of

    config, model = job.config, job.part
    blocks = architectures_of(config)
    first = {block.hash: block for block in reversed(blocks)}
    stands_for = blocks if model == "proxies" else [first[block.hash] for block in blocks]
    asked = list(dict.fromkeys(stands_for))
    found = scoring.score(config, job.stage, model, lambda scored: asked, len(asked))
    score_of = {block: s.score for block, s in zip(asked, found, strict=True)}
    values = pd.DataFrame([score_of[block].values for block in stands_for])
    hashes = [block.hash for block in blocks]
    folder, table = result_folder(config, job.stage), values.assign(hash=hashes)
    write_atomically(folder / "scores.csv", table[["hash", *values]].to_csv(index_label="index"))
    result: dict[str, Any] = {
        "mean": values.mean().to_dict(),
        "values": values.to_dict(orient="list"),
        "hashes": hashes,
    }
    if model.startswith("ghn/"):
        result["block_difference"] = _block_difference(config, model, asked[:COMPARED])
    scoring.publish(config, job.stage, model, found, result, ["scores.csv"])
    tracking.done(folder)


def _block_difference(config: "Config", model: str, blocks: "list[Block]") -> float | None:
    """Return how much the generated weights of consecutive blocks differ, mean over `blocks`.

    None if no network has weights in consecutive blocks.
    """
    import torch

    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.build import untrained
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.pipeline.results import load_weights
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.ranking.differences import difference_of_blocks

    space, ghn = space_of(config), untrained(config, model).to(prepare_device(config))
    load_weights(config, model, ghn)
    networks = [Network(space.modules(block), config.images.resolution) for block in blocks]
    with torch.no_grad():
        found = [difference_of_blocks(n, ghn([n])[0]) for n in networks]
    there = [each for each in found if each is not None]
    return sum(there) / len(there) if there else None


@stage(
    "table4",
    reads=(
        "sgd/{correlation.architectures}",
        "repeat/{correlation.repeats}",
        "oneshot/{oneshots}",
        "ghn/{first_ghns}",
        "scores/oneshot/{oneshots}",
        "scores/proxies: run.json",
        "scores/sgd: run.json",
        "scores/ghn/{first_ghns}",
    ),
    settings=(
        "scale",
        "correlation.architectures",
        "correlation.repeats",
        "correlation.selection",
        *INTERVALS,
        "tables",
    ),
    writes=(
        *(f"table4{form}" for form in (*TABLE, ".json", ".findings.json")),
        *("figure6.svg", "figure6.png"),
    ),
    root=SCALE,
    chapters=("correlation",),
    shown={
        "table4.html": Shown("table4.rst", "Table 4", "the table"),
        "figure6.svg": Shown("figure6.rst", "Figure 6", "the figure"),
    },
)
def table4(job: Job) -> None:
    """Make Table 4 and Figure 6, and print the correlations."""
    import numpy as np

    from ghn_pipeline.pipeline import findings
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.pipeline.results import accuracies, repeats
    from ghn_pipeline.ranking.intervals import reliability
    from ghn_pipeline.ranking.methods import Comparison
    from ghn_pipeline.report import figure, table
    from ghn_pipeline.report.correlations import metrics
    from ghn_pipeline.report.paper import figure6, table4

    config, confidence = job.config, job.config.correlation.confidence
    ranked, again = Rankings(config), repeats(config)
    relied_on = None
    if again:
        first, groups = ranked.truth[: len(again)], ranked.hashes[: len(again)]
        second = accuracies(again, "test")
        relied_on = reliability(first, second, confidence=confidence, groups=groups)
    rows = table4_rows(ranked)
    folder = Path("results", config.scale)
    by_test, validated = ranked.compare(rows), accuracies(ranked.trainings, "validation")
    by_validation = Comparison(rows, validated, confidence, ranked.hashes)
    found = table4.measure_rows(by_test, by_validation)
    made = table4.table4(
        rows,
        found,
        relied_on,
        scale=config.scale,
        scale_note=config.scale_note,
        architectures=len(ranked.truth),
        costs=config.tables.costs,
        confidence=confidence,
    )
    table.write(made, folder / "table4")
    agreements = {key: one.by_test for key, one in found.items()}
    write_atomically(folder / "table4.json", json.dumps(metrics(agreements), indent=1) + "\n")
    shown = {key: key.partition("/")[2] or "accuracy" for key in rows if key.startswith("ghn")}
    drawn = figure6.figure6(
        {by: np.mean(rows[key].predictions, axis=0) for key, by in shown.items()},
        ranked.truth,
        scale_note=config.small(config.scale_note),
        correlations={by: agreements[key]["all"]["pearson"] for key, by in shown.items()},
    )
    figure.save(drawn, folder / "figure6")
    findings.write(config, "table4", _table4_findings(ranked, by_test.renamed(table4.split)))
    write_provenance(config, "table4", [*again, *ranked.made_of])
    print(table4.summary(found, len(ranked.truth)))
    print(f"see {folder}/table4.md and {folder}/figure6.png")


def table4_rows(ranked: "Rankings") -> "dict[str, Method]":
    """Return the rows of Table 4, by accuracy and by other measures.

    Raises:
        UserError: a stage is missing or stale; the message names it.
    """
    from ghn_pipeline.report.correlations import PAPERS

    return {
        **ranked.untrained("sgd"),
        **ranked.models(PAPERS),
        **ranked.untrained("proxies"),
    }


def scale_of(ranked: "Rankings", comparison: "Comparison[tuple[str, str]]") -> "Scale":
    """Return the scale of findings about methods, by their name and measure."""
    from ghn_pipeline.report.paper.effects import Scale

    config = ranked.config
    return Scale(
        config.scale,
        ranked.truth_in_words,
        config.evaluation.measure,
        comparison,
        # published truths have a long tail of architectures that never learn
        "pearson" if ranked.trainings else "spearman",
    )


def _table4_findings(
    ranked: "Rankings", comparison: "Comparison[tuple[str, str]]"
) -> "list[Finding]":
    """Return the findings about the claims of section 5.3."""
    from ghn_pipeline.report.paper.effects import of_costs, of_early_sgd, of_rankings

    config, scale = ranked.config, scale_of(ranked, comparison)
    early = {
        int(name.removeprefix("sgd-")): name
        for name, _ in comparison.methods
        if name.startswith("sgd-")
    }
    found = [*of_rankings(scale), *of_early_sgd(scale, early, ranked.steps)]
    if not config.tables.costs:
        return found
    seconds = [run["accelerator_seconds"] for run in ranked.trainings]
    per_thousand = [1000 * of_one / ranked.steps for of_one in seconds]
    costs = {6: (per_thousand, ranked.each_seconds()), **ranked.costs(config.search.evaluations)}
    return [*found, *of_costs(scale, costs)]


@stage(
    "ablations",
    reads=(
        DRAWN,
        "ghn/{trained}",
        "scores/ghn/{trained}",
    ),
    optional=("sgd/{correlation.architectures}",),
    settings=(
        "scale",
        "ablations",
        "ghn",
        "correlation.ghns",
        "correlation.architectures",
        *INTERVALS,
    ),
    writes=(
        *(f"{figure}{form}" for figure in PARTS[:2] for form in (*TABLE, ".svg", ".png")),
        *(f"table5{form}" for form in TABLE),
        *("ablations.json", "ablations.findings.json"),
    ),
    root=SCALE,
    chapters=("ablations",),
    shown={
        "table5.html": Shown("table5.rst", "Ablations", "Table 5"),
        "figure5a.svg": Shown("figure5.rst", "Ablations", "Figure 5a"),
        "figure5b.svg": Shown("figure5.rst", "Ablations", "Figure 5b"),
    },
)
def ablations(job: Job) -> None:
    """Make Figures 5a and 5b and Table 5 (section 5.4), and print the correlations."""
    from ghn_pipeline.pipeline import findings
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.report.correlations import metrics, show

    config, ranked = job.config, Rankings(job.config)
    entries = dict.fromkeys(name for part in PARTS for name in config.ablated(part))
    methods = {(name, by): m for name in entries for by, m in ranked.ghns(name).items()}
    scale = scale_of(ranked, ranked.compare(methods))
    points: dict[str, dict[str, Correlations]] = {name: {} for name in entries}
    for name, by in methods:
        points[name][by] = scale.comparison.of((name, by))
    _figure5(config, points, len(ranked.truth))
    _table5(ranked, scale, points)
    folder = Path("results", config.scale)
    by_accuracy = {name: of["accuracy"] for name, of in points.items()}
    write_atomically(folder / "ablations.json", json.dumps(metrics(by_accuracy), indent=1) + "\n")
    findings.write(config, "ablations", ablation_findings(config, scale))
    write_provenance(config, "ablations", ranked.made_of)
    for name, of in by_accuracy.items():
        print(f"{name}: Pearson R {show(of['all']['pearson'])}")
    print(f"see {folder}/figure5a.png, {folder}/figure5b.png and {folder}/table5.md")


def ablation_findings(config: "Config", scale: "Scale") -> "list[Finding]":
    """Return the findings about the claims of section 5.4, from the GHNs of its figures."""
    from ghn_pipeline.report.paper.effects import of_nodes, of_propagation, of_stacking

    def by(part: str, *keys: str) -> dict[Any, str]:
        return {
            tuple(getattr(config.ghns[name], key) for key in keys): name
            for name in config.ablated(part)
        }

    nodes = {n: name for (n,), name in sorted(by("figure5a", "nodes").items())}
    return [
        *of_nodes(scale, nodes, config.space.nodes),
        *of_propagation(scale, by("figure5b", "scheme", "passes")),
        *of_stacking(scale, by("table5", "share_parameters", "pass_embeddings")),
    ]


def _figure5(config: "Config", found: "Mapping[str, Point]", architectures: int) -> None:
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.paper import figure5

    folder, a, b = Path("results", config.scale), *map(config.ablated, ("figure5a", "figure5b"))
    setting = figure5.Setting(
        scale=config.scale,
        scale_note=config.whole_note,
        architectures=architectures,
        confidence=config.correlation.confidence,
    )
    ghns = {name: config.ghns[name] for name in found}
    one, points = ghns[a[0]] if a else config.ghn, {ghns[name].nodes: found[name] for name in a}
    write(
        figure5.points5a(points, passes=one.passes, scheme=one.scheme, setting=setting),
        folder / "figure5a",
    )
    drawn = figure5.figure5a(points, passes=one.passes, scheme=one.scheme, setting=setting)
    save(drawn, folder / "figure5a")
    nodes = (ghns[b[0]] if b else config.ghn).nodes
    by_scheme: dict[tuple[str, int], Point] = {
        (ghns[name].scheme, ghns[name].passes): found[name] for name in b
    }
    write(figure5.points5b(by_scheme, nodes=nodes, setting=setting), folder / "figure5b")
    save(figure5.figure5b(by_scheme, nodes=nodes, setting=setting), folder / "figure5b")


def _table5(ranked: "Rankings", scale: "Scale", points: "Mapping[str, Point]") -> None:
    from ghn_pipeline.report.paper.table5 import NAMES, Stacking, table5

    config = ranked.config
    ghns = {name: config.ghns[name] for name in config.ablated("table5")}
    of = {(ghn.share_parameters, ghn.pass_embeddings): name for name, ghn in ghns.items()}
    rows, before = {}, ""
    for key in (key for key in NAMES if key in of):
        name = of[key]
        ahead = {
            by: scale.comparison.contrast({(name, by): 1, (before, by): -1})
            for by in points[name]
            if before
        }
        seeds = len(ghns[name].seeds)
        rows[key] = Stacking(points[name], ahead, seeds, ranked.block_difference(name))
        before = name
    made = table5(
        rows,
        scale=config.scale,
        scale_note=config.whole_note,
        architectures=len(ranked.truth),
        confidence=config.correlation.confidence,
    )
    write(made, Path("results", config.scale, "table5"))
