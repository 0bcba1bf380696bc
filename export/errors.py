"""Errors that a user can cause and mend."""


class UserError(Exception):
    """An input is wrong. The message is one line: what, what was found, what was expected.

    Commands print it without a traceback and exit with status 2.
    """


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the variant."""


def one_line(error: Exception) -> str:
    """An error in one line: its type and message, or the message alone where it was worded so."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
