"""The record beside every result: its settings, code, inputs, machine and time."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ghn_pipeline.data.cifar10 import BATCHES
from ghn_pipeline.pipeline import schemas
from ghn_pipeline.pipeline.commit import commit_or_warning
from ghn_pipeline.pipeline.stage import (
    all_settings,
    checkpoint_file,
    command,
    kinds,
    result_folder,
    settings,
)
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest, read_bytes, read_json, write_atomically
from ghn_pipeline.system.schema import faults

PACKAGES = ("ghn-pipeline", "torch", "torchvision", "numpy", "scipy", "pandas", "snakemake")


def provenance(config: Config, stage: str) -> dict[str, Any]:
    """Return a result's run, settings and their digest, commit, packages, data and time.

    Raises:
        UserError: the folder of checkpoints cannot be written, or its file with the run's key is
            damaged.
    """
    return {
        "run": _run(config, stage),
        "stage": stage,
        "scale": config.scale,
        "digest": digest(settings(config, stage)),
        "settings": all_settings(config, stage),
        "cifar10": digest(BATCHES),
        "packages": {name: version(name) for name in PACKAGES},
        **commit_or_warning(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(
    config: Config,
    stage: str,
    result: dict[str, Any],
    *,
    seconds: float,
    outputs: Sequence[str] = (),
    hardware: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
) -> None:
    """Write the `run.json` of a stage, whose outputs are already written.

    Args:
        config: the configuration.
        stage: the stage's whole name, such as "sgd/3".
        result: the numbers that the stage computed.
        seconds: accelerator-seconds over all resumes.
        outputs: names of the files in the stage's folder; the record has their SHA-256.
        hardware: the description by `machine.hardware`, for a stage that computes.
        inputs: SHA-256 of the artifacts that the stage read.

    Raises:
        UserError: an output is missing, a number of the result is out of its range, or the results
            folder cannot be written.
    """
    folder, made_by = result_folder(config, stage), command(stage)
    content = {
        **provenance(config, stage),
        "result": result,
        "accelerator_seconds": seconds,
        "hardware": hardware or {},
        "inputs": inputs or {},
        "outputs": {name: _sha256(read_bytes(folder / name, made_by)) for name in outputs},
    }
    # as JSON reads it back, with text for keys and lists for sequences, for the SHA-256 below
    content = json.loads(json.dumps(content))
    content["sha256"] = _own_sha256(content)
    if fault := _fault(content):
        raise UserError(f"{stage} ended with a result that cannot be right ({fault}).")
    write_atomically(folder / "run.json", json.dumps(content, indent=1) + "\n")


def write_provenance(config: Config, table: str, made_of: list[dict[str, Any]]) -> None:
    """Write the provenance of a table or figure, and the records of all the runs it is made of.

    Raises:
        UserError: the results folder cannot be written.
    """
    sources = {"table": provenance(config, table), "made_of": made_of}
    path = result_folder(config, table).with_suffix(".provenance.json")
    write_atomically(path, json.dumps(sources, indent=1) + "\n")


def read(config: Config, stage: str) -> dict[str, Any]:
    """Read the record of an earlier stage.

    Raises:
        UserError: it is missing, damaged or stale.
    """
    path, made_by = result_folder(config, stage) / "run.json", command(stage)
    content = read_json(path, made_by)
    made, expected = _digest_in(content), digest(settings(config, stage))
    if made is not None and made != expected:
        raise UserError(
            f"{path} is stale: it was made with other settings (digest {made}; the settings in "
            f"force have {expected}). Run `{made_by}` again."
        )
    found = _checked(content, path, made_by)
    if found["stage"] != stage:
        raise UserError(f"{path} is the record of {found['stage']}. Run `{made_by}` again.")
    return found


def load(path: Path) -> dict[str, Any]:
    """Read a record, stale or not.

    Args:
        path: the path results/SCALE/STAGE/run.json.

    Raises:
        UserError: it is missing or damaged.
    """
    made_by = command("/".join(path.parent.parts[2:]))
    return _checked(read_json(path, made_by), path, made_by)


def output(config: Config, stage: str, name: str) -> Path:
    """Return the path of an earlier stage's output, whose bytes are verified.

    Raises:
        UserError: the output or the record is missing, damaged or stale.
    """
    path = result_folder(config, stage) / name
    if name not in (written := read(config, stage)["outputs"]):
        raise UserError(f"{stage} has no {name} in its run.json. Run `{command(stage)}` again.")
    found = _sha256(read_bytes(path, command(stage)))
    if found != written[name]:
        raise UserError(
            f"{path} is not the file that was written: its SHA-256 is {found}, and the run.json "
            f"beside it says {written[name]}. Delete it and run `{command(stage)}` again."
        )
    return path


def _checked(content: Any, path: Path, made_by: str) -> dict[str, Any]:
    if fault := _fault(content):
        raise UserError(
            f"{path} is no whole record: it was damaged or edited, or comes from an older version "
            f"({fault}). Delete it and run `{made_by}` again."
        )
    whole: dict[str, Any] = content
    return whole


def _fault(content: Any) -> str:
    """Return the faults of a record, "" if there are none."""
    try:
        found = schemas.Record.model_validate(content)
        of_kind = kinds().get(found.stage.partition("/")[0])
        if of_kind is None:
            return f"stage: there is no {found.stage}"
        TypeAdapter(getattr(schemas, of_kind[0].result)).validate_python(found.result)
    except ValidationError as error:
        return faults(error)
    own = _own_sha256(content)
    return "" if own == found.sha256 else f"its SHA-256 is {own}, and it says {found.sha256}"


def _own_sha256(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return _sha256(json.dumps(rest, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_in(content: Any) -> str | None:
    found = content.get("digest") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def _run(config: Config, stage: str) -> str:
    """Return the key of a stage's work, which stays the same if the work is resumed or redone."""
    path = checkpoint_file(config, stage, ".run")
    if not path.exists():
        key = uuid.uuid4().hex
        own = path.with_name(f".{path.name}.{key}")
        write_atomically(own, key + "\n")
        # if workers start at once, the first names the run, because a link replaces no file
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(own, path)
        own.unlink(missing_ok=True)
    found = read_bytes(path, command(stage)).decode("ascii", "replace").strip()
    if not re.fullmatch("[0-9a-f]{32}", found):
        raise UserError(
            f"{path} is damaged: it names no run. Delete it and run `{command(stage)}` again."
        )
    return found
