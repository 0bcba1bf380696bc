"""What a job says that is interrupted, or ends at a full disk."""

import contextlib
from collections.abc import Callable, Iterator

from signatures.program import Interrupted, disk_full

from .command_line import JobError


@contextlib.contextmanager
def tells_how_far_it_came(done: Callable[[], str], place: str) -> Iterator[None]:
    """Says what a job has done when it is interrupted, or ends at a full disk.

    Args:
        done: says in words what is done by then and stays.
        place: where the job writes to.

    Raises:
        Interrupted: as it was, with what is left in words.
        JobError: a disk is full.
    """
    try:
        yield
    except Interrupted as interrupted:
        interrupted.left = f"{_words(done)}; run the same command again to go on"
        raise
    except Exception as error:
        if not disk_full(error):
            raise
        raise JobError(
            f"{place}: the disk is full; {_words(done)}; make room, then run the same command again"
        ) from error


def _words(done: Callable[[], str]) -> str:
    try:
        return done()
    except Exception:
        return "what is done cannot be read"
