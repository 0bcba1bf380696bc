"""The staging area on a disk: a directory for each run, and the removal of what dead runs left.

A run holds a lock on its directory, which goes with the process however that ends. A directory is
stale when nobody holds it and nothing in it changed for the time to live: the lock tells a run that
is long at one step from a dead one, and the time gives the workers of a dead run time to end.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterator

from signatures.program import removed_at_the_end

_TRIES = 100
"""How often a directory is made that is gone again."""


@contextlib.contextmanager
def local_area(root: pathlib.Path, ttl: float) -> Iterator[pathlib.Path]:
    """A directory for a run, which is gone afterwards; so is the staging area if nothing is in it.

    Args:
        root: the staging area; is made.
        ttl: seconds after which what nobody holds is removed.

    Raises:
        OSError: it can't be written.
    """
    directory = root / uuid.uuid4().hex
    held = None

    def remove() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        _remove_if_empty(root)

    with removed_at_the_end(remove):
        try:
            with _locked(root):
                _remove_stale(root, ttl)
                directory.mkdir()
                held = _hold(directory)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            if held is not None:
                os.close(held)


def _remove_stale(root: pathlib.Path, ttl: float) -> None:
    for entry in root.iterdir():
        # A run that ends removes its own meanwhile.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            if time.time() - _newest(entry) < ttl:
                continue
            if not entry.is_dir() or entry.is_symlink():
                entry.unlink()
                continue
            held = _hold(entry)
            shutil.rmtree(entry, ignore_errors=True)
            if held is not None:
                os.close(held)


def _newest(path: pathlib.Path) -> float:
    """When anything in a tree changed last."""
    return max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))


def _hold(directory: pathlib.Path) -> int | None:
    """Locks a directory until the descriptor is closed.

    Returns:
        The descriptor, None where the filesystem has no locks: the time alone counts there.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def _locked(root: pathlib.Path) -> Iterator[None]:
    """Keeps other runs from making, removing and cleaning directories of the staging area."""
    tries = iter(range(_TRIES))
    while True:
        try:
            root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, FileExistsError) as error:
            # Another run that ended may have removed it, but not again and again.
            if next(tries, None) is None:
                raise _named(error) from None
            continue
        try:
            with contextlib.suppress(OSError):  # No locks there.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # While this waited, the one before may have removed it.
            if not _is(root, descriptor):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _named(error: OSError) -> OSError:
    """The error of a directory that cannot be made, which does not know of links to nowhere."""
    path = error.filename
    if os.path.islink(path) and not os.path.exists(path):
        return FileNotFoundError(errno.ENOENT, f"{path} is a link to nowhere", path)
    return error


def _is(path: pathlib.Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_if_empty(root: pathlib.Path) -> None:
    # Not empty: another run is at work there.
    with contextlib.suppress(OSError):
        if root.is_dir():
            with _locked(root):
                root.rmdir()
