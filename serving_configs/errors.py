"""The error that a user of this package can cause."""


class ConfigError(Exception):
    """Something in the published tree or in a command is wrong.

    The message is one line that names it and says what to do.
    """
