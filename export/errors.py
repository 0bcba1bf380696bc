"""Errors that a user can cause and mend."""


class UserError(Exception):
    """An input is wrong. The message is one line: what, what was found, what was expected.

    Commands print it without a traceback and exit with status 2.
    """


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the variant."""
