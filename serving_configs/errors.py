"""The error of this package."""


class ConfigError(Exception):
    """Something in the published tree or in what was asked for is wrong; the message is one line
    that names it and says what to do."""
