"""A command as a process: how it ends when it is interrupted, or when nobody takes its output.

An interrupted command says in one line what was interrupted, and leaves nothing half done: the
signal becomes an exception, `Interrupted`, that unwinds what is at work. Its exit status is 130
after SIGINT and 143 after SIGTERM. The processes that it started end with it. Exit handlers do not
run: they would wait for threads that are still at work.

Where nobody reads the output any longer (`| head`), the command ends in silence with status 141, as
other programs do. Whatever is written hides the credentials of URLs.
"""

import contextlib
import errno
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from .messages import without_credentials
from .streams import Messages, Output, OutputError, open_closed_streams, to_nowhere

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
# `timeout` and terminals send a signal twice: to the process, and to its group.
_REPEATED_SECONDS = 1.0
_PACKAGES = ("pipelines", "serving", "serving_configs")


class Interrupted(BaseException):
    """SIGINT or SIGTERM came. No Exception: nothing takes it for an error of what is at work.

    Attributes:
        signal: which.
        left: what is left and what to do, in words, for the message.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)
        self.left = "run the same command again"


def disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is that a disk is full.

    Native code and worker processes hand over the text of an error alone.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(text in str(cause) for text in _FULL_TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def run(main: Callable[[], int]) -> int:
    """Runs a command as this process.

    Args:
        main: the command. It returns its exit status.

    Returns:
        The exit status. After a signal it does not return: the process ends here.
    """
    _process.begin()
    try:
        try:
            _process.running = True
            status = main()
        except SystemExit as error:  # Of argparse, after `--help`.
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        sys.stdout.flush()
        _process.running = False
        if status == 1:
            # What failed may have left threads and processes behind that wait for one another.
            _kill_children()
            _process.end(status, "")
        return status
    except Interrupted as error:
        _process.end(128 + error.signal, f"interrupted by {error.signal.name}; {error.left}")
    except OutputError as error:
        reason = error.__cause__
        if isinstance(reason, BrokenPipeError):
            _process.end(128 + signal.SIGPIPE, "")
        _process.end(1, f"error: the output cannot be written ({reason})")
    except Exception as error:
        if not disk_full(error):
            raise
        named = error.filename if isinstance(error, OSError) and error.filename else "a file"
        _process.end(1, f"error: {named}: the disk is full; make room and run the command again")


def begin_early() -> None:
    """Takes signals from now on, if this process is a command of ours that is still loading."""
    # Python's name of a module that it has not found yet.
    if sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv:
        module = "".join(sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1])
        if module.split(".")[0] in _PACKAGES:
            _process.begin()


@contextlib.contextmanager
def removed_at_the_end(remove: Callable[[], object]) -> Iterator[None]:
    """Calls `remove` after the block, and once more when the process ends by a signal.

    Threads that are at work then may have put something back.
    """
    _process.last.append(remove)
    try:
        yield
    finally:
        remove()
        if not _process.ending:
            _process.last.remove(remove)


def in_thread(work: Callable[[], None]) -> None:
    """Runs something that is not to be unwound in a thread, and waits for it.

    Only the main thread gets signals. Processes that are started in the other one do not get those
    of a terminal: they end with this process.

    Raises:
        Interrupted: a signal came. The thread is still at work.
    """
    failed: list[BaseException] = []

    def target() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class _Process:
    """This process, where it is a command."""

    def __init__(self) -> None:
        self.running = False
        self.ending = 0.0
        self.last: list[Callable[[], object]] = []
        self._terminal: int | None = None

    def begin(self) -> None:
        """Takes signals and the output. Does nothing the second time."""
        if self._terminal is not None:
            return
        open_closed_streams()
        self._terminal = os.dup(2)
        sys.stdout = Output(sys.stdout)
        sys.stderr = Messages(sys.stderr)
        for number in SIGNALS:
            # What is ignored, as by `nohup`, stays so.
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._interrupt)

    def end(self, status: int, message: str) -> NoReturn:
        """Ends the process."""
        sys.stderr.flush()
        self.ending = self.ending or time.monotonic()
        _silence()
        for remove in reversed(self.last):
            with contextlib.suppress(Exception):
                remove()
        if message and self._terminal is not None:
            line = without_credentials(message).replace("\n", " ") + "\n"
            if os.isatty(self._terminal):
                line = f"\n{line}"  # Behind a bar, or the terminal's `^C`.
            with contextlib.suppress(OSError):
                os.write(self._terminal, line.encode(errors="backslashreplace"))
        os._exit(status)

    def _interrupt(self, number: int, _frame: object) -> None:
        if self.ending:
            if time.monotonic() - self.ending > _REPEATED_SECONDS:
                os._exit(128 + number)
            return
        self.ending = time.monotonic()
        _silence()
        _kill_children()
        if not self.running:
            self.end(128 + number, f"interrupted by {signal.Signals(number).name}")
        raise Interrupted(number)


_process = _Process()


def _silence() -> None:
    """Keeps threads that are still at work from saying what the end does to them."""
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
    to_nowhere(2)


def _kill_children() -> None:
    """Ends all processes that come from this one."""
    while children := _children(os.getpid()):
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _children(pid: int) -> list[int]:
    """All processes that come from a process, but for those that have ended."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program, in parentheses, may hold anything.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents.setdefault(int(parent), []).append(int(entry.parent.name))
    found = list(parents.get(pid, ()))
    for child in found:
        found += parents.get(child, ())
    return found
