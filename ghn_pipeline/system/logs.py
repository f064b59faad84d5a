"""The log file of a stage, with all its output over all resumes."""

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.supervised import log_is


class _Copied(io.TextIOBase):
    """A stream that also writes its text to a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def note(self, text: str) -> None:
        """Write to the log while that is possible, because a full disk must not end the work."""
        try:
            self.log.write(text)
        except OSError as error:
            self.stream.write(f"warning: output is not in the log any more ({error.strerror})\n")
            self.log = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        self.note(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()


def keep(path: Path) -> None:
    """Append all further output of this process to `path`.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered, so that a kill loses no output, and the end of the process does not write
        # again to a full disk
        file = open(path, "ab", buffering=0)  # noqa: SIM115
        # a message with a name that is not UTF-8 must not end the work
        log = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", write_through=True
        )
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}. Move what is in the way or give write "
            "permission, then run the same command again."
        ) from error
    log_is(path)
    sys.stdout, sys.stderr = _Copied(sys.stdout, log), _Copied(sys.stderr, log)


def only(text: str) -> None:
    """Write a line to the log only, if there is one; the terminal shows a bar instead."""
    if isinstance(sys.stderr, _Copied):
        sys.stderr.note(text + "\n")
