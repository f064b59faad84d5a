"""Files that are written whole or not at all, and read with checks."""

import fcntl
import hashlib
import json
import math
import os
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from ghn_pipeline.system.errors import UserError

#: The deepest nesting of lists and objects in a JSON file.
DEEPEST = 100


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a crash, a kill or a full disk leaves the old file untouched.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    # with the process number, so that two writers never share a temporary file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        # `path.exists` would raise for a folder without permission
        kept = "; the file that was there before is untouched" if os.path.isfile(path) else ""
        raise UserError(
            f"cannot write {path}: {_reason(error)}{kept}. Free some space or give write "
            "permission, then run the same command again."
        ) from error
    finally:
        with suppress(OSError, ValueError):  # there may be no file to remove
            temporary.unlink()


def lock(file: TextIO, seconds: float, waiting: Callable[[], None] = lambda: None) -> None:
    """Lock `file` for this process until it is closed; call `waiting` if another one holds it.

    Raises:
        TimeoutError: another process has held the lock for so many seconds.
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


def _reason(error: Exception) -> str:
    """Return the reason of a failed read or write; it may be a null character in the name."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def read_bytes(path: Path, made_by: str) -> bytes:
    """Return the content of `path`, a file that the command `made_by` makes.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. It is made by `{made_by}`: run that first."
        ) from error
    except (OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"cannot read {path}: {_reason(error)}. Make it readable, or delete it and run "
            f"`{made_by}` again."
        ) from error


def read_given(path: str, setting: str, source: str) -> bytes:
    """Return the content of a file that the user names in a setting.

    Args:
        path: the path of the file.
        setting: the dotted path of the setting, for the message.
        source: where to get the file, for the message.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise UserError(f"cannot read {path} ({setting}): {_reason(error)}. {source}") from error


def given_sha256(path: str, setting: str, source: str) -> str:
    """Return the SHA-256 of a file that the user names in a setting; see `read_given`.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return hashlib.sha256(read_given(path, setting, source)).hexdigest()
    return _sha256_of(path, setting, source, (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=100)
def _sha256_of(path: str, setting: str, source: str, state: tuple[int, ...]) -> str:
    return hashlib.sha256(read_given(path, setting, source)).hexdigest()


def read_json(path: Path, made_by: str) -> Any:
    """Return the JSON in `path`, a file that the command `made_by` makes.

    It must be UTF-8 without a byte order mark, with finite numbers and without duplicate keys.

    Raises:
        UserError: the file is missing, cannot be read or is not such JSON.
    """
    try:
        return _parsed(read_bytes(path, made_by).decode("utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not whole JSON ({error}). Delete it and run `{made_by}` again."
        ) from error


def _parsed(text: str) -> Any:
    try:
        value = json.loads(
            text,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_whole_number,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError("it is nested too deeply")
    json.dumps(
        value, ensure_ascii=False
    ).encode()  # raises for half a surrogate pair, which cannot be encoded
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)} is not a finite number")
    return value


def _whole_number(text: str) -> int:
    _number(text)  # a number too large for a float would be an error later
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(k for k, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} is given twice")
    return found


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a JSON-like `value` with sorted keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
