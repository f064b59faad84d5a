"""The paper's claims, each with a verdict, from the tables and figures of this scale."""

from pathlib import Path

from ghn_pipeline.report import table
from ghn_pipeline.stages.shared import (
    CHOSEN_BY,
    DRAWN,
    FINDINGS,
    FIRST_GHN,
    INTERVALS,
    SCALE,
    TABLE,
    Job,
    Shown,
    stage,
)


@stage(
    "top",
    reads=(
        DRAWN,
        CHOSEN_BY,
        f"{FIRST_GHN}: run.json",
        "short/{finalists.ranks}",
        "sgd/{correlation.architectures}",
    ),
    settings=("scale", "finalists.ranks", "correlation.architectures", *INTERVALS),
    writes=(*(f"top{form}" for form in TABLE), "top.findings.json"),
    root=SCALE,
    chapters=("architecture_search",),
    shown={"top.html": Shown("top.rst", "Claims", "the search's best")},
)
def top(job: Job) -> None:
    """Hold the search's best against random architectures, all trained as the ground truth is.

    Table 1 does it with the full recipe, for as many random architectures as top ones.
    """
    import numpy as np

    from ghn_pipeline.pipeline import findings
    from ghn_pipeline.pipeline.rankings import Rankings
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.pipeline.results import accuracies, architectures_of, by_rank, trained_on
    from ghn_pipeline.pipeline.spaces import parameters
    from ghn_pipeline.report.extra import top_table
    from ghn_pipeline.report.paper.claims import shown
    from ghn_pipeline.report.paper.effects import of_search

    config, ranks = job.config, job.config.finalists.ranks
    blocks, ranked = by_rank(config, "top", ranks), Rankings(config)
    runs = [trained_on(config, f"short/{rank}", blocks[rank]) for rank in ranks]
    best, random = accuracies(runs, "test"), ranked.truth
    sizes = parameters(config, architectures_of(config)[: len(random)])
    largest = np.argsort(-sizes, kind="stable")[: len(ranks)]
    others = np.setdiff1d(np.arange(len(random)), largest)
    count, by = config.search.evaluations, config.evaluation.measure
    named = {"scale": config.scale, "truth": ranked.truth_in_words}
    confidence = config.correlation.confidence
    by_size = f"largest {len(largest)} by parameters, less the other random ones"
    found = [
        of_search(best, random, confidence, by=f"{len(best)} of {count:,}, by {by}", **named),
        of_search(random[largest], random[others], confidence, by=by_size, main=False, **named),
    ]
    top_sizes = parameters(config, [blocks[rank] for rank in ranks])
    groups = {
        f"GHN Top, {len(best)} of {count:,} searched": (best, top_sizes),
        "Random": (random, sizes),
        f"of these, the {len(largest)} with the most parameters": (random[largest], sizes[largest]),
    }
    made = top_table.top_table(groups, found, scale=config.scale, scale_note=config.scale_note)
    table.write(made, Path("results", config.scale, "top"))
    findings.write(config, "top", found)
    write_provenance(config, "top", [*runs, *ranked.made_of])
    print(f"GHN Top less Random: {shown(found[0])} points; see results/{config.scale}/top.md")


@stage(
    "claims",
    optional=FINDINGS,
    settings=("scale",),
    writes=(*(f"claims{form}" for form in (*TABLE, ".json", ".svg", ".png")),),
    root=SCALE,
    chapters=("claims",),
    shown={
        "claims.html": Shown("claims.rst", "Claims", "the page"),
        "claims.svg": Shown("claims.rst", "Claims", "the figure"),
    },
)
def claims(job: Job) -> None:
    """Make the page and the figure of the paper's claims, from whatever this scale has run."""
    from ghn_pipeline.pipeline import findings
    from ghn_pipeline.pipeline.record import write_provenance
    from ghn_pipeline.report.paper import claims_page
    from ghn_pipeline.report.paper.claims import shown

    config = job.config
    folder = Path("results", config.scale)
    found = findings.read(folder)
    claims_page.write(found, folder / "claims")
    write_provenance(config, "claims", [])
    for one in found:
        if one.main:
            print(f"claim {one.claim}, {one.by or one.truth}: {shown(one)}: {one.verdict}")
    print(f"see {folder}/claims.md and {folder}/claims.png")
