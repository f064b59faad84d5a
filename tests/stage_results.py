"""Results as stages write them, made by hand: for tests of what reads them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ghn_pipeline.model.graph import Block
from ghn_pipeline.pipeline import record
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.files import write_atomically

HASH = "0123456789abcdef"
BLOCK = [["input_1", []], ["input_2", []], ["identity", [0, 1]]]
FINALIST = {
    "steps": 20,
    "final_loss": 1.5,
    "measured": {20: {"validation": 0.4, "test": 0.35, "seconds": 3.0}},
    "hash": HASH,
    "parameters": 1000,
    "processes": 2,
    "precision": "torch.float32",
}
#: A whole result of each kind of stage.
EXAMPLES: dict[str, dict[str, Any]] = {
    "architectures": {"architectures": 6, "selection": 0},
    "ghn": {"steps": 30, "final_loss": 1.125, "measured": {10: {"spearman": -0.25}}},
    "oneshot": {"steps": 30, "final_loss": 1.125, "measured": {}},
    "sgd": {
        "steps": 30,
        "final_loss": 1.0,
        "measured": {30: {"validation": 0.3, "test": 0.25, "seconds": 2.0}},
        "hash": HASH,
    },
    "scores": {
        "mean": {"accuracy": 0.25},
        "values": {"accuracy": [0.2, 0.3]},
        "hashes": [HASH, HASH[::-1]],
        "seconds_each": {"accuracy": 1.5},
    },
    "search": {"evaluations": 2, "best": 0.3, "hash": HASH, "seconds_each": {"accuracy": 1.5}},
    "winner": {"rank": 0, "validation": 0.3, "hash": HASH, "block": BLOCK, "of": {"0": 0.3}},
    "finalists": FINALIST,
    "mobile": {
        "hash": HASH, "channels": 3, "parameters": 9, "multiply_adds": 8, "images": None
    },
    "anytime": {
        "steps": 5,
        "final_loss": 1.0,
        "measured": {5: {"validation/exit-1": 0.1, "test/exit-1": 0.2, "seconds": 1.0}},
        "spent": [100],
        "parameters": 50,
    },
    "memory": {"ghn": {"parameters": 9, "peak_bytes": 90}},
    "export": {"of": "finalists/best/0", "hash": HASH, "test": 0.35},
}  # fmt: skip
EXAMPLES |= dict.fromkeys(("repeat", "short"), EXAMPLES["sgd"])


def finish(
    config: Config,
    stage: str,
    changes: Mapping[str, Any] | None = None,
    *,
    files: Mapping[str, bytes | str] | None = None,
    seconds: float = 2.0,
    inputs: dict[str, str] | None = None,
) -> Path:
    """Write the outputs and the record of a finished stage; return its folder.

    The result is the example of its kind with `changes`.
    """
    folder = record.result_folder(config, stage)
    for name, content in (files or {}).items():
        write_atomically(folder / name, content)
    result = {**EXAMPLES[stage.partition("/")[0]], **(changes or {})}
    record.write(config, stage, result, seconds=seconds, outputs=list(files or {}), inputs=inputs)
    return folder


def reseal(path: Path, changes: Mapping[str, Any]) -> None:
    """Change a `run.json`, and its SHA-256 with it."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    rest = {key: value for key, value in content.items() if key != "sha256"}
    own = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**rest, "sha256": own}), encoding="utf-8")


def listed(blocks: Sequence[Block], **values: Sequence[float]) -> str:
    """Return an `architectures.json` of blocks, with the values of measures."""
    return json.dumps(
        [
            {"hash": b.hash, "block": b.to_json(), **{name: of[i] for name, of in values.items()}}
            for i, b in enumerate(blocks)
        ]
    )
