"""Errors that a user can cause and correct."""


class UserError(Exception):
    """An input is wrong. The message is one line: the input, what was found, what was expected.

    Commands print it without a traceback and exit with status 2.
    """


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the variant."""


def one_line(error: Exception) -> str:
    """An error as one line: its message, after its type unless it is a `UserError`."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
