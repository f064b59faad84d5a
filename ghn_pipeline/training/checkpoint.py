"""Checkpoints: whole or not there, of one configuration, read without executing code."""

import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import lock, write_atomically

#: seconds that a second process waits for the first to be done with a checkpoint
PATIENCE = 600.0


def save(path: Path, state: dict[str, Any], digest: str) -> None:
    """Write `state` (tensors, numbers, text, lists, dicts) under the configuration's digest.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    # to memory first: torch turns a full disk into an error that does not say so
    buffer = io.BytesIO()
    torch.save({"digest": digest, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, digest: str, made_by: str) -> dict[str, Any]:
    """Read what `save` wrote, its tensors on the CPU.

    Raises:
        UserError: missing, truncated, not a checkpoint, or of another configuration.
    """
    try:
        # the archive's own checksums, which torch does not look at
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing. It is made by `{made_by}`: run that first.") from error
    except (PermissionError, MemoryError) as error:
        raise UserError(f"cannot read {path}: {error}. The file itself may be whole.") from error
    # torch raises whatever its reader stumbles on: IndexError, AssertionError, struct.error ...
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is not a whole checkpoint ({reason}). Delete it and run `{made_by}` again."
        ) from error
    if not isinstance(state, dict) or state.get("digest") != digest:
        given = state.get("digest") if isinstance(state, dict) else None
        raise UserError(
            f"{path} belongs to another configuration (digest {given}, this one has {digest}). "
            f"Move or delete it to train anew, or restore the settings that made it."
        )
    return state


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the checkpoint for this process alone; a second job of that name waits for the first.

    So a job that was started again cannot meet its own forerunner, which may still be saving or
    go on where a cluster has lost sight of it.

    Raises:
        UserError: another process holds it for longer than `PATIENCE`, or the folder cannot be
            written.
    """
    held = path.with_suffix(".lock")
    try:
        held.parent.mkdir(parents=True, exist_ok=True)
        file = open(held, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write {held}: {error.strerror}. Give write permission.") from error
    with file:
        try:
            lock(file, PATIENCE, lambda: _say_waiting(path))
        except TimeoutError as error:
            raise UserError(
                f"another process is training {path}; wait for it or stop it first."
            ) from error
        yield


def _say_waiting(path: Path) -> None:
    print(f"another process is training {path}: waits for it", file=sys.stderr, flush=True)
