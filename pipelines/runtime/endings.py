"""What a job says that is interrupted, or ends at a full disk."""

import contextlib
from collections.abc import Callable, Iterator

from signatures.program import Interrupted, disk_full

from .command_line import JobError

AGAIN = "run the same command again"


@contextlib.contextmanager
def told(left: Callable[[], str], place: str) -> Iterator[None]:
    """Says how far a job came that is interrupted, or ends at a full disk.

    Args:
        left: says what is there by now and what to do, in words.
        place: where the job writes to.

    Raises:
        Interrupted: as it was, with what is left in words.
        JobError: a disk is full.
    """
    try:
        yield
    except Interrupted as interrupted:
        # A store that cannot be read cannot say what it holds.
        with contextlib.suppress(Exception):
            interrupted.left = left()
        raise
    except Exception as error:
        if not disk_full(error):
            raise
        words = f"{AGAIN}"
        with contextlib.suppress(Exception):
            words = left()
        raise JobError(f"{place}: the disk is full; {words}, with more room") from error
