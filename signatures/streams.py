"""The standard streams of a command: credentials hidden, and errors of writing told apart."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .messages import without_credentials


class OutputError(BaseException):
    """The standard output cannot be written.

    No Exception: nothing takes it for an error of what is at work.
    """


class _Stream(io.TextIOWrapper):
    """A standard stream in which the credentials of URLs are hidden."""

    def __init__(self, stream: Any) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
        )
        # It would close the buffer when it goes.
        self._original = stream

    def write(self, text: str) -> int:
        super().write(without_credentials(text))
        return len(text)


class Output(_Stream):
    """The standard output. Writing raises `OutputError`."""

    def write(self, text: str) -> int:
        with _taken():
            return super().write(text)

    def flush(self) -> None:
        with _taken():
            super().flush()


class Messages(_Stream):
    """The standard error. Where it cannot be written there is nobody to say so to."""

    def __init__(self, stream: Any, dropped: Callable[[str], bool] = lambda text: False) -> None:
        super().__init__(stream)
        self._dropped = dropped
        self._dropping = False

    def write(self, text: str) -> int:
        # `print` writes the end of the line by itself.
        self._dropping = self._dropped(text) or (self._dropping and text == "\n")
        with contextlib.suppress(OSError):
            if not self._dropping:
                super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _taken() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is in its buffer would be tried again at the very end.
        to_nowhere(1)
        raise OutputError from error


def open_closed_streams() -> None:
    """Opens standard streams that are closed, so that no file that is written gets their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            to_nowhere(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False, encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")


def to_nowhere(descriptor: int) -> None:
    """Lets what is written to a descriptor vanish."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def take_messages(dropped: Callable[[str], bool]) -> None:
    """Hides credentials in the standard error of this process, a worker, and drops some messages.

    Args:
        dropped: says whether a text is dropped.
    """
    sys.stderr = Messages(sys.stderr, dropped)
