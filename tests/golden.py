"""The digests of the settings of every stage of every preset, kept in golden/digests.json.

    python tests/golden.py    # writes them anew: a commit that changes them says why

A result is known by its digest. A change of the code that changes a digest makes the results that
users have stale, so no change may do it unseen.
"""

import json
from pathlib import Path

from ghn_pipeline.pipeline.stages import (
    CHAPTERS,
    CHAPTERS_OF,
    RIVALS,
    anytime_trainings,
    compared,
    searches,
    settings,
)
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.files import digest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests/golden/digests.json"
#: "paper" is params.yaml alone.
PRESETS = ["paper", *sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))]


def stages(config: Config) -> list[str]:
    """List every stage that the space of a configuration has."""
    ghns = [f"ghn/{name}" for name in config.ghns]
    found = ["architectures", *ghns, *(f"scores/{ghn}" for ghn in ghns)]
    chapters = CHAPTERS_OF[config.space.name]
    kinds = set().union(*(CHAPTERS[chapter] for chapter in chapters))
    numbered = {
        "sgd": [f"sgd/{index}" for index in config.correlation.architectures],
        "short": [f"short/{rank}" for rank in config.finalists.ranks],
        "finalists": [
            *(f"finalists/{g}/{r}" for g in ("top", "random") for r in config.finalists.ranks),
            *(f"finalists/best/{seed}" for seed in config.finalists.seeds),
        ],
        "anytime": [f"anytime/{name}" for name in anytime_trainings(config)],
        "oneshot": ["oneshot", *(f"scores/{rival}" for rival in RIVALS)],
        "benchmark": ["benchmark", *compared(config)],
    }
    for kind in kinds:
        found += numbered.get(kind, [kind])
    if "search" in chapters:
        found.append("search_curves")
    return sorted({*found, *searches(config)})


def digests() -> dict[str, dict[str, str]]:
    """Return the digest of every stage by preset."""
    found = {}
    for preset in PRESETS:
        more = [] if preset == "paper" else [ROOT / "presets" / f"{preset}.yaml"]
        config = load([ROOT / "params.yaml", *more])
        found[preset] = {stage: digest(settings(config, stage)) for stage in stages(config)}
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(digests(), indent=1) + "\n", encoding="utf-8")
