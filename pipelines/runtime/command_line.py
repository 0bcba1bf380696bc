"""What the commands share: their errors and the checks of their flags."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, ParamSpec

from export.errors import UserError
from signatures.flags import WholeFlagsParser
from signatures.messages import without_credentials
from signatures.program import disk_full

# TensorFlow Serving's versions are 64-bit.
_LARGEST = 2**63 - 1


_P = ParamSpec("_P")


class JobError(Exception):
    """A job that ended badly. The message is one line."""


class JobParser(WholeFlagsParser):
    """A parser that raises its errors."""

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
            UserError: always.
        """
        raise UserError(message)


def one_line_errors(command: Callable[_P, int]) -> Callable[_P, int]:
    """Makes a command print an error in one line, also that of a path.

    The status is 2 for a user's error, 1 for a failed job's and for a disk that is full.
    """

    @functools.wraps(command)
    def main(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except (UserError, JobError) as error:
            print(f"error: {without_credentials(str(error))}", file=sys.stderr)
            return 2 if isinstance(error, UserError) and not disk_full(error) else 1
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1 if disk_full(error) else 2

    return main


def whole_number(flag: str, value: str, least: int) -> int:
    """The number in a flag's value.

    Raises:
        UserError: the value is not a number, or is below `least` or above 64 bits.
    """
    if not (value.isascii() and value.isdecimal()) or not least <= int(value) <= _LARGEST:
        raise UserError(f"{flag} {value}; expected {least} or more")
    return int(value)


def split_names(flag: str, value: str) -> list[str]:
    """The names in a flag's value, which commas separate, without duplicates.

    Raises:
        UserError: the value has no names.
    """
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag} names nothing; expected names separated by commas")
    return list(dict.fromkeys(names))


def refuse_unknown(flags: Iterable[str], known: Iterable[str]) -> None:
    """Refuses flags that are not known. Beam would drop them, and typing errors go unnoticed.

    Raises:
        UserError: the first unknown flag, and known flags with similar names.
    """
    known = set(known)
    for name in flags:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}; {hint}")
