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
    FIRST_GHN,
    INITIAL,
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    bootstrap_of,
    stage,
)
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.report.correlations import Correlations
    from ghn_pipeline.report.paper.table4 import Row
    from ghn_pipeline.settings.config import Config


#: The figures and the table of section 5.4.
PARTS = ("figure5a", "figure5b", "table5")


@stage(
    "scores/ghn/NAME",
    result="Scores",
    reads=("data", DRAWN, "ghn/{part}: model.pt run.json"),
    settings=("evaluation",),
    each="correlation.ghns",
    known="ghns",
    writes=("scores.csv",),
    needs="scoring",
    costs=lambda config, part: costs.scoring(
        config, "ghn", config.ghns[part], config.correlation.drawn
    ),
)
@stage(
    "scores/oneshot",
    result="Scores",
    reads=("data", DRAWN, "oneshot: model.pt run.json"),
    settings=("evaluation",),
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
        "proxies.steps",
        "evaluation.batch",
        "evaluation.batches",
        "evaluation.together",
    ),
    writes=("scores.csv",),
    needs="scoring",
    chapters=("benchmark",),
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
    result = {
        "mean": values.mean().to_dict(),
        "values": values.to_dict(orient="list"),
        "hashes": hashes,
    }
    scoring.publish(config, job.stage, model, found, result, ["scores.csv"])
    tracking.done(folder)


@stage(
    "table4",
    reads=(
        "sgd/{correlation.architectures}",
        "oneshot: model.pt run.json",
        f"{FIRST_GHN}: model.pt run.json",
        "scores/oneshot: run.json",
        "scores/proxies: run.json",
        f"scores/{FIRST_GHN}: run.json",
    ),
    settings=(
        "scale",
        "correlation.architectures",
        "correlation.steps",
        *INTERVALS,
        "tables",
    ),
    writes=(*(f"table4{form}" for form in (*TABLE, ".json")), "figure6.svg", "figure6.png"),
    root=SCALE,
    chapters=("correlation",),
    shown={
        "table4.html": Shown("table4.rst", "Table 4", "the table"),
        "figure6.svg": Shown("figure6.rst", "Figure 6", "the figure"),
    },
)
def table4(job: Job) -> None:
    """Make Table 4 and Figure 6, and print the correlations."""
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.report import figure, table
    from ghn_pipeline.report.correlations import metrics
    from ghn_pipeline.report.paper import figure6, table4

    config = job.config
    rows, made_of = table4_rows(config)
    folder, bootstrap = Path("results", config.scale), bootstrap_of(config)
    count = config.correlation.architectures
    found = table4.measure_rows(rows, count, bootstrap)
    made = table4.table4(
        rows,
        found,
        scale=config.scale,
        scale_note=config.scale_note,
        architectures=count,
        costs=config.tables.costs,
        bootstrap=bootstrap,
    )
    table.write(made, folder / "table4")
    write_atomically(folder / "table4.json", json.dumps(metrics(found), indent=1) + "\n")
    ghn = rows["ghn"]
    drawn = figure6.figure6(
        ghn.predicted,
        ghn.truth,
        scale_note=config.small(config.scale_note),
        correlation=found["ghn"]["all"]["pearson"],
    )
    figure.save(drawn, folder / "figure6")
    write_provenance(config, "table4", made_of)
    print(table4.summary(found, count))
    print(f"see {folder}/table4.md and {folder}/figure6.png")


def table4_rows(config: "Config") -> "tuple[dict[str, Row], list[dict[str, Any]]]":
    """Return the rows of Table 4, and the records that they are from.

    Raises:
        UserError: a stage is missing or stale; the message names it.
    """
    import numpy as np

    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.results import (
        final_accuracies,
        first_ghn,
        predicted,
        scores_of,
        truths,
    )
    from ghn_pipeline.report.paper.table4 import Row

    sgd = truths(config)
    made_of = list(sgd)
    measured = [run["result"]["measured"] for run in sgd]
    truth = final_accuracies(sgd)
    rows = {}
    for k in config.correlation.steps:
        early = [m[str(k)] for m in measured]
        seconds = float(np.mean([e["seconds"] for e in early]))
        rows[f"sgd-{k}"] = Row(None, seconds, np.array([e["accuracy"] for e in early]), truth)
    for key, model in (("oneshot", "oneshot"), ("ghn", first_ghn(config))):
        trained = record.read(config, model)
        scored = scores_of(config, model, sgd)
        each = scored["result"]["seconds_each"]["accuracy"]
        rows[key] = Row(trained["accelerator_seconds"], each, predicted(scored, truth), truth)
        made_of += [trained, scored]
    scored = scores_of(config, "proxies", sgd)
    for name, each in scored["result"]["seconds_each"].items():
        rows[name] = Row(None, each, predicted(scored, truth, name), truth)
    made_of.append(scored)
    return rows, made_of


@stage(
    "ablations",
    reads=("sgd/{correlation.architectures}", "scores/ghn/{correlation.ghns}"),
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
        "ablations.json",
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
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.pipeline.results import ghn_pairs
    from ghn_pipeline.report.correlations import measure, metrics, show

    config = job.config
    names = list(dict.fromkeys(name for part in PARTS for name in config.ablated(part)))
    pairs, made_of = ghn_pairs(config, names)
    found = measure(
        pairs,
        of="the ablations",
        architectures=config.correlation.architectures,
        bootstrap=bootstrap_of(config),
    )
    _figure5(config, found)
    _table5(config, found)
    folder = Path("results", config.scale)
    write_atomically(folder / "ablations.json", json.dumps(metrics(found), indent=1) + "\n")
    write_provenance(config, "ablations", made_of)
    for name in names:
        print(f"{name}: Pearson R {show(found[name]['all']['pearson'])}")
    print(f"see {folder}/figure5a.png, {folder}/figure5b.png and {folder}/table5.md")


def _figure5(config: "Config", found: "Mapping[str, Correlations]") -> None:
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.paper import figure5

    folder, a, b = Path("results", config.scale), *map(config.ablated, ("figure5a", "figure5b"))
    setting = figure5.Setting(
        scale=config.scale,
        scale_note=config.scale_note,
        architectures=config.correlation.architectures,
        bootstrap=bootstrap_of(config),
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
    by_scheme: dict[tuple[str, int], Correlations] = {
        (ghns[name].scheme, ghns[name].passes): found[name] for name in b
    }
    write(figure5.points5b(by_scheme, nodes=nodes, setting=setting), folder / "figure5b")
    save(figure5.figure5b(by_scheme, nodes=nodes, setting=setting), folder / "figure5b")


def _table5(config: "Config", found: "Mapping[str, Correlations]") -> None:
    from ghn_pipeline.report.paper.table5 import table5

    ghns = {name: config.ghns[name] for name in config.ablated("table5")}
    made = table5(
        {(g.share_parameters, g.pass_embeddings): found[name] for name, g in ghns.items()},
        scale=config.scale,
        scale_note=config.scale_note,
        architectures=config.correlation.architectures,
        bootstrap=bootstrap_of(config),
    )
    write(made, Path("results", config.scale, "table5"))
