"""Files that are either whole or not there."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

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
