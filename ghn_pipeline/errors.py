"""The errors that are the user's to mend: the command line prints them without a traceback."""


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""


class OutOfTimeError(UserError):
    """Stopped and saved ahead of a time limit: the same command goes on."""
