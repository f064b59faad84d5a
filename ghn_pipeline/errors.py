"""The errors that are the user's to mend: the command line prints them without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""


class OutOfTimeError(UserError):
    """Stopped and saved ahead of a time limit: the same command goes on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that offers the known name most like `name`; empty if none is like it."""
    return "".join(f" (did you mean {k}?)" for k in difflib.get_close_matches(name, list(known), 1))
