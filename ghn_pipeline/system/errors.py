"""The errors that users can mend; the command line prints them without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error whose message names the fault, its place, and the remedy."""


class OutOfTimeError(UserError):
    """The work was stopped and saved before a time limit; the same command resumes it."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a question with the known word nearest to `word`, "" if none is near."""
    near = get_close_matches(str(word)[:100], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
