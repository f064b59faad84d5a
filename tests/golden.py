"""Digests that no change of the code may alter unseen, kept in golden/.

    python tests/golden.py                  # writes those of the settings anew
    python tests/golden.py results/smoke    # adds or replaces those of a smoke run on this machine

A commit that changes them says why. A result is known by the digest of its settings; if that
changes, the results that users have are stale. The tables and figures of the smoke preset are the
same bytes in every run on processors with the same vector instructions and the same engine of
propagation.
"""

import hashlib
import json
import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from ghn_pipeline.pipeline.stage import needed, settings
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.files import digest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests/golden/digests.json"
TABLES = ROOT / "tests/golden/smoke.json"
#: "paper" is params.yaml alone.
PRESETS = ["paper", *sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))]


def stages(config: Config) -> list[str]:
    """List every stage that the space of a configuration has."""
    declared = [one for one in needed(config.space.chapters) if one.record]
    return sorted(name for one in declared for name in one.names(config))


def digests() -> dict[str, dict[str, str]]:
    """Return the digest of every stage by preset; files that a user brings are empty."""
    found = {}
    for preset in PRESETS:
        more = [] if preset == "paper" else [ROOT / "presets" / f"{preset}.yaml"]
        config = load([ROOT / "params.yaml", *more])
        with TemporaryDirectory() as folder, chdir(folder):
            if table := config.benchmark.table:
                Path(table).parent.mkdir(parents=True, exist_ok=True)
                Path(table).touch()
            found[preset] = {stage: digest(settings(config, stage)) for stage in stages(config)}
    return found


def machine(results: Path) -> str:
    """Return the engine and the vector instructions that computed a run."""
    made_on = json.loads((results / "ghn/default/run.json").read_text(encoding="utf-8"))["hardware"]
    return ", ".join(made_on[key] for key in ("device", "instruction_set", "propagation"))


def tables(results: Path) -> dict[str, str]:
    """Return the digest of every table and figure of a run, and of its metrics."""
    files = sorted(f for f in results.iterdir() if f.is_file() and "provenance" not in f.name)
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in files}


def add_tables(results: Path) -> None:
    """Keep the digests of a run's tables under the name of its machine."""
    known = json.loads(TABLES.read_text(encoding="utf-8")) if TABLES.exists() else {}
    known[machine(results)] = tables(results)
    TABLES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        add_tables(Path(sys.argv[1]))
        sys.exit()
    FILE.write_text(json.dumps(digests(), indent=1) + "\n", encoding="utf-8")
