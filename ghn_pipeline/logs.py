"""What a stage says stands in a log file as well, in one piece over all its resumes."""

import io
import sys
from pathlib import Path
from typing import TextIO

from ghn_pipeline.errors import UserError


class _Copied(io.TextIOBase):
    """A stream whose text also goes into a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        self.log.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.log.flush()
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()


def keep(path: Path) -> None:
    """Append to `path` all that this process prints from here on.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # by lines: a kill loses none that was printed
        log = open(path, "a", buffering=1)  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}. Give write permission.") from error
    sys.stdout, sys.stderr = _Copied(sys.stdout, log), _Copied(sys.stderr, log)


def only(text: str) -> None:
    """Write a line to the log alone, where there is one: the terminal shows a bar instead."""
    if isinstance(sys.stderr, _Copied):
        sys.stderr.log.write(text + "\n")
