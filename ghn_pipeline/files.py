"""Files that are either whole or not there."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ghn_pipeline.errors import UserError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a crash, a kill or a full disk leaves the old file untouched.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    # the process number: two writers of one file never share a temporary one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = "; the file that was there before is untouched" if path.exists() else ""
        raise UserError(
            f"cannot write {path}: {error.strerror}{kept}. Free some space or give write "
            "permission, then run the same command again."
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def lock(file: TextIO, seconds: float, waiting: Callable[[], None] = lambda: None) -> None:
    """Hold `file` for this process alone, until it is closed; `waiting` is called if it is held.

    Raises:
        TimeoutError: another process has held it for so many seconds.
    """
    end, told = time.monotonic() + seconds, False
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise TimeoutError(f"{file.name} is held by another process") from None
        if not told:
            waiting()
            told = True
        time.sleep(0.05)


def read_bytes(path: Path, made_by: str) -> bytes:
    """Return the content of `path`, an artifact that the command `made_by` makes.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. It is made by `{made_by}`: run that first."
        ) from error


def read_json(path: Path, made_by: str) -> Any:
    """Return the JSON in `path`, an artifact that the command `made_by` makes.

    Raises:
        UserError: the file is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(read_bytes(path, made_by))
    except ValueError as error:
        raise UserError(
            f"{path} is not whole JSON ({error}). Delete it and run `{made_by}` again."
        ) from error


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a JSON-like `value`, keys sorted."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
