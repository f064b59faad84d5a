"""The GHNs that come with the package, each with a card."""

import math
from pathlib import Path
from typing import Any

import torch

from ghn_pipeline.library import trained
from ghn_pipeline.pipeline import record
from ghn_pipeline.pipeline.build import images_of, untrained
from ghn_pipeline.pipeline.rankings import Rankings
from ghn_pipeline.pipeline.results import load_weights
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.methods import Method
from ghn_pipeline.settings.config import Config

#: The folder of the package that they are in, in a checkout.
FOLDER = Path("ghn_pipeline/trained")


def ship(config: Config) -> Path:
    """Write the seed of the first GHN that ranks the selection best, in half precision.

    Returns:
        The folder of its files.

    Raises:
        UserError: a stage is missing, damaged or stale, or a file cannot be written.
    """
    on_selection = {name: _on_selection(config, name) for name in config.first_ghns}
    name = max(on_selection, key=on_selection.__getitem__)
    model, images = untrained(config, f"ghn/{name}"), images_of(config, torch.device("cpu"))
    load_weights(config, f"ghn/{name}", model)
    folder = FOLDER / config.space.name
    trained.write(
        folder,
        model,
        half=True,
        space=space_of(config),
        design=config.models[name],
        resolution=config.images.resolution,
        mean=images.mean.tolist(),
        std=images.std.tolist(),
        card=_card(config, name, on_selection[name]),
    )
    return folder


def _on_selection(config: Config, name: str) -> float:
    """Return Spearman's coefficient over the selection after training, 0 without a selection."""
    measured = record.read(config, f"ghn/{name}")["result"]["measured"]
    last: dict[str, float] = list(measured.values())[-1] if measured else {}
    return last.get("spearman", 0.0)


def _card(config: Config, name: str, on_selection: float) -> dict[str, Any]:
    run, ranked = record.read(config, f"ghn/{name}"), Rankings(config)
    entry = config.correlation.ghns[0]
    by = config.evaluation.measure
    place = config.seeds_of(entry).index(name)
    method = Method([ranked.ghns(entry)[by].predictions[place]], None, None)
    found = ranked.compare({"ghn": method}).of("ghn")["all"]
    count = len(config.first_ghns)
    chosen = f"Spearman {on_selection:.3f} over the selection of {config.correlation.selection}"
    return {
        "stage": f"{config.scale}, ghn/{name}",
        "images": config.images_note,
        "steps": run["result"]["steps"],
        "seconds": round(run["accelerator_seconds"]),
        "hardware": run["hardware"],
        "commit": run["commit"],
        "finished": run["finished"],
        "chosen": f"{chosen}, the best of {count} seeds"
        if on_selection
        else f"the first of {count} seeds",
        "ranks": {
            "truth": ranked.truth_in_words,
            "by": by,
            **{
                coefficient: [
                    None if math.isnan(end) else round(end, 4)
                    for end in (one.value, one.low, one.high)
                ]
                for coefficient, one in found.items()
            },
        },
        "sha256": run["outputs"]["model.pt"],
    }
