"""The digests of the settings of every stage of every preset, kept in golden/digests.json.

    python tests/golden.py    # writes them anew: a commit that changes them says why

A result is known by its digest. A change of the code that changes a digest makes the results that
users have stale, so no change may do it unseen.
"""

import json
from pathlib import Path

from ghn_pipeline.pipeline.stage import needed, settings
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.files import digest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests/golden/digests.json"
#: "paper" is params.yaml alone.
PRESETS = ["paper", *sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))]


def stages(config: Config) -> list[str]:
    """List every stage that the space of a configuration has."""
    declared = [one for one in needed(config.space.name) if one.record]
    return sorted(name for one in declared for name in one.names(config))


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
