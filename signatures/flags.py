"""The parser that the commands of all packages share, and the flag that all of them have."""

import argparse
import os
from typing import Any

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""The environment's name of the least severity that TensorFlow's native code logs."""


class WholeFlagsParser(argparse.ArgumentParser):
    """A parser that takes whole flag names only, and keeps its help's lines.

    A command's own parser, which has `--help`, has `--verbose` too.
    """

    def __init__(self, prog: str | None = None, *, add_help: bool = True, **arguments: Any) -> None:
        super().__init__(
            prog,
            add_help=add_help,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **arguments,
        )
        if add_help:
            add_verbose(self)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds `--verbose`, which changes the environment: processes that are started inherit it."""
    parser.add_argument(
        "--verbose",
        action=_Verbose,
        nargs=0,
        # It is no option of the command itself.
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="show what TensorFlow logs of itself",
    )


class _Verbose(argparse.Action):
    def __call__(self, *_: object, **__: object) -> None:
        os.environ[LOG_LEVEL] = "0"
