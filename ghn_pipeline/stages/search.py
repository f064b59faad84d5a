"""The search, which ranks many architectures by the first GHN (section 5.1.1)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.stages import scoring
from ghn_pipeline.stages.shared import DRAWN, FIRST_GHN, SCALE, Job, Shown, Work, stage
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from ghn_pipeline.ranking.scoring import Strategy
    from ghn_pipeline.settings.config import Config


#: The paper's method, and one of the "advanced search methods" of section 6.
METHODS = ("random", "evolution")


def _search(method: str, *own: str) -> Callable[[Work], Work]:
    """Declare the searches by one method; each seed is a part."""
    return stage(
        f"search/{method}/SEED",
        result="Search",
        reads=("data", DRAWN, f"{FIRST_GHN}: model.pt run.json"),
        settings=("evaluation", "search.evaluations", *own, "seeds.search"),
        each="search.seeds",
        writes=("architectures.json", "curve.csv"),
        needs="scoring",
        costs=lambda config, _: costs.scoring(
            config, "ghn", config.models[config.first_ghns[0]], config.search.evaluations
        ),
        like="search",
    )


@_search("random")
@_search("evolution", "search.population", "search.sample", "search.generation")
def search(job: Job) -> None:
    """Search with weights from the first GHN, at random or by evolution (5.1.1)."""
    import pandas as pd

    from ghn_pipeline.pipeline import tracking
    from ghn_pipeline.pipeline.results import first_ghn
    from ghn_pipeline.ranking.strategies import best_so_far

    config = job.config
    strategy = _strategy(config, *job.part.split("/"))
    found = scoring.score(config, job.stage, first_ghn(config), strategy, config.search.evaluations)
    folder, by = result_folder(config, job.stage), config.evaluation.measure
    values = [s.score.values[by] for s in found]
    if not any(values):
        why = config.evaluation.why_zero
        raise UserError(
            f"{by} is 0 for all {len(values)} architectures, so nothing ranks them"
            f"{why and f': {why}'}."
        )
    entries = [
        json.dumps(
            {"hash": s.score.hash, **s.score.values, "block": s.block.to_json()}, sort_keys=True
        )
        for s in found
    ]
    write_atomically(folder / "architectures.json", "[\n" + ",\n".join(entries) + "\n]\n")
    curve = pd.DataFrame({by: values, "best": best_so_far(values)})
    curve.index = curve.index + 1
    write_atomically(folder / "curve.csv", curve.to_csv(index_label="step"))
    best = max(found, key=lambda s: s.score.values[by])  # Eq. 2
    result = {"evaluations": len(found), "best": best.score.values[by], "hash": best.score.hash}
    outputs = ["architectures.json", "curve.csv"]
    scoring.publish(config, job.stage, first_ghn(config), found, result, outputs)
    tracking.done(folder)
    print(f"the best of {len(found)}: {best.score.hash}, {by} {best.score.values[by]:.4f}")


@stage(
    "search_curves",
    reads=("search/random/{search.seeds}", "search/evolution/{search.seeds}"),
    settings=("scale", "search.seeds"),
    writes=("search_curves.svg", "search_curves.png", "search_curves.csv"),
    root=SCALE,
    chapters=("architecture_search",),
    shown={"search_curves.svg": Shown("search.rst", "Search", "best so far")},
)
def search_curves(job: Job) -> None:
    """Make the figure of every search's best score so far."""
    import pandas as pd

    from ghn_pipeline.pipeline import record
    from ghn_pipeline.report.extra.search_figure import search_figure
    from ghn_pipeline.report.figure import save

    config = job.config
    made_of: list[dict[str, Any]] = []
    curves: dict[str, list[np.ndarray]] = {}
    for method in METHODS:
        names = [f"search/{method}/{seed}" for seed in config.search.seeds]
        made_of += [record.read(config, name) for name in names]
        files = [record.output(config, name, "curve.csv") for name in names]
        curves[method] = [pd.read_csv(file)["best"].to_numpy() for file in files]
    folder = Path("results", config.scale)
    note, by = config.small(config.images_note), config.evaluation
    drawn = search_figure(
        curves, scale_note=note, ranked_by=by.shown, unit="%" if by.in_percent else ""
    )
    save(drawn, folder / "search_curves")
    columns = {
        f"{name}/{seed}": curve
        for name, found in curves.items()
        for seed, curve in zip(config.search.seeds, found, strict=True)
    }
    table = pd.DataFrame(columns)
    table.index = table.index + 1
    write_atomically(folder / "search_curves.csv", table.to_csv(index_label="evaluations"))
    record.write_provenance(config, "search_curves", made_of)
    for name, found in curves.items():
        ends = ", ".join(f"{curve[-1]:.4f}" for curve in found)
        print(f"{name}: the best of {len(found[0])} evaluations, {by.measure} by seed: {ends}")


def _strategy(config: "Config", method: str, seed: str) -> "Strategy":
    from ghn_pipeline.pipeline.spaces import listed, space_of
    from ghn_pipeline.ranking.strategies import evolution, listed_search, random_search

    space, nodes, chosen = space_of(config), config.space.nodes, config.search
    # both methods share the stream, so they start from the same architectures
    stream = f"{config.seeds.search}/{seed}"
    if method == "random" and (blocks := listed(config)):
        return listed_search(blocks, stream, chosen.evaluations)
    if method == "random":
        return random_search(space, nodes, stream, chosen.evaluations)
    sizes = {key: getattr(chosen, key) for key in ("population", "sample", "generation")}
    return evolution(space, nodes, stream, **sizes, by=config.evaluation.measure)
