"""Files that readers see whole, before or after, and that one writer at a time changes."""

import contextlib
import fcntl
import os
import pathlib
import tempfile
from collections.abc import Iterator


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Puts a file in place by one rename, once it is on the disk.

    Args:
        path: of the file; its directory is made where it is missing.
        content: text is written as UTF-8.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    with open_atomically(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def open_atomically(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file beside `path` to be written; it takes the place of `path` when the block ends well.

    Raises:
        OSError: as `write_atomically`.
    """
    # No number and no name that a server reads.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        # What mkstemp makes is for its owner alone; a server may run as another user.
        temporary.chmod(0o644)
        _sync(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from changing a file at the same time; waits for those that are.

    The lock is on a file beside it, because the file itself is replaced. It goes with the process
    that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
