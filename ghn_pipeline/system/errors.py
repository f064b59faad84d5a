"""The errors that are the user's to mend: the command line prints them without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""


class OutOfTimeError(UserError):
    """Stopped and saved ahead of a time limit: the same command goes on."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a question for the end of a message: the known word nearest to `word`, if one is."""
    near = get_close_matches(str(word)[:100], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
