"""The record that lies beside every result: what made it, from what, where and when."""

import json
import os
import subprocess
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ghn_pipeline.config import Config
from ghn_pipeline.data.cifar10 import BATCHES
from ghn_pipeline.errors import UserError
from ghn_pipeline.files import digest, read_bytes, read_json, write_atomically
from ghn_pipeline.stages import checkpoint_file, result_folder, settings

PACKAGES = ("ghn-pipeline", "torch", "torchvision", "numpy", "scipy", "pandas", "snakemake")


def provenance(config: Config, stage: str) -> dict[str, Any]:
    """Return what made a result: its run, settings and their digest, commit, packages, data, time.

    Raises:
        UserError: the folder of the checkpoints cannot be written.
    """
    made_from = settings(config, stage)
    return {
        "run": _run(config, stage),
        "stage": stage,
        "scale": config.scale,
        "digest": digest(made_from),
        "settings": made_from,
        "cifar10": digest(BATCHES),
        "packages": {name: version(name) for name in PACKAGES},
        **commit(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(
    config: Config,
    stage: str,
    result: dict[str, Any],
    *,
    seconds: float,
    hardware: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
) -> None:
    """Write the `run.json` of a stage.

    Args:
        config: of the scale.
        stage: as `stages.settings` knows it.
        result: the numbers that the stage is for.
        seconds: of the accelerator, over all resumes.
        hardware: as `compute.hardware` describes it, for a stage that computes.
        inputs: SHA-256 of the artifacts it was made from.

    Raises:
        UserError: the results folder cannot be written.
    """
    measured = {
        "result": result,
        "accelerator_seconds": seconds,
        "hardware": hardware or {},
        "inputs": inputs or {},
    }
    content = json.dumps({**provenance(config, stage), **measured}, indent=1)
    write_atomically(result_folder(config, stage) / "run.json", content + "\n")


def write_provenance(config: Config, table: str, made_of: list[dict[str, Any]]) -> None:
    """Write what made a table or figure, and the records of all the runs it was made of.

    Raises:
        UserError: the results folder cannot be written.
    """
    sources = {"table": provenance(config, table), "made_of": made_of}
    path = result_folder(config, table).with_suffix(".provenance.json")
    write_atomically(path, json.dumps(sources, indent=1) + "\n")


def read(config: Config, stage: str, made_by: str) -> dict[str, Any]:
    """Read the record of an earlier stage.

    Raises:
        UserError: it is missing, or was made with other settings than those in force.
    """
    expected = digest(settings(config, stage))
    path = result_folder(config, stage) / "run.json"
    content: dict[str, Any] = read_json(path, made_by)
    made = content.get("digest") if isinstance(content, dict) else None
    if made != expected:
        raise UserError(
            f"{path} is stale: it was made with other settings (digest {made}, those in force have "
            f"{expected}). Run `{made_by}` again."
        )
    return content


def _run(config: Config, stage: str) -> str:
    """Return the key of a stage's work: the same after a kill, and for results made once more."""
    path = checkpoint_file(config, stage, ".run")
    if not path.exists():
        key = uuid.uuid4().hex
        own = path.with_name(f".{path.name}.{key}")
        write_atomically(own, key + "\n")
        # of workers that start at once the first names the run: a link replaces nothing
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(own, path)
        own.unlink(missing_ok=True)
    return read_bytes(path, "ghn").decode().strip()


def commit() -> dict[str, Any]:
    """Return the commit of the package's own checkout and whether the package was altered since."""

    def git(*words: str) -> str | None:
        there = Path(__file__).parent
        words = ("git", "-C", str(there), *words)
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        status = git("status", "--porcelain", "--", ".")
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": None if status is None else status != "",
        }
    except FileNotFoundError:  # no git on this machine
        return {"commit": None, "dirty": None}
