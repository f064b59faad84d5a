"""The one error that is the user's to mend: the command line prints it without a traceback."""


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""
