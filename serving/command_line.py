"""What the commands of `serving` share: the parser, flags, and how they fail."""

import argparse
import importlib.util
import math
import sys
from typing import NoReturn

from signatures.flags import WholeFlagsParser
from signatures.messages import without_credentials


class UsageError(ValueError):
    """A wrong command line; the message is one line."""


class CommandParser(WholeFlagsParser):
    """A parser that raises its errors."""

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)


def add_server_flags(parser: argparse.ArgumentParser, server: str, timed: str) -> None:
    """Adds `--timeout`, and `--server` with the default None, which tells that it is not set.

    Args:
        parser: the command's parser.
        server: the address that the command uses without `--server`.
        timed: what the timeout limits.
    """
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"address of a model server's gRPC port (default: {server})",
    )
    add_timeout_flag(parser, timed, 300.0)


def add_timeout_flag(parser: argparse.ArgumentParser, timed: str, default: float) -> None:
    """Adds `--timeout`, which limits what `timed` names."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_positive_seconds,
        default=default,
        help=f"seconds for {timed} (default: %(default)s)",
    )


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return seconds


def require_matplotlib(extra: str) -> None:
    """Checks that Matplotlib is installed, which an extra of the distribution brings.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"matplotlib is not installed; run pip install 'cait-serving[{extra}]'")


def fail(command: str, message: object, status: int = 2) -> int:
    """Prints why a command failed, in one line, and returns its exit status."""
    line = " ".join(str(message).split())
    print(f"{command}: {without_credentials(line)}", file=sys.stderr)
    return status
