"""Files that readers never see half-written, and that one process at a time changes."""

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator


def write_atomically(
    path: pathlib.Path, content: str | bytes, scratch: pathlib.Path | None = None
) -> None:
    """Writes a temporary file, syncs it to the disk and renames it.

    Args:
        path: the file, which may exist.
        content: text is written as UTF-8.
        scratch: as in `open_atomically`.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    with open_atomically(path, scratch) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def open_atomically(
    path: pathlib.Path, scratch: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """Gives a temporary file, which replaces `path` when the block succeeds.

    Args:
        path: the file.
        scratch: a directory on the same filesystem for the temporary file, for a place where one
            that a killed process leaves would not belong. None is beside the file, whose directory
            is made where it is missing.

    Raises:
        OSError: as `write_atomically`.
    """
    if scratch is None:
        make_directory(path.parent)
    _require_replaceable(path)
    # No number and no name that a server reads.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=scratch or path.parent)
    os.close(descriptor)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner only; a reader may be another user.
        temporary.chmod(0o644)
        sync(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _require_replaceable(path: pathlib.Path) -> None:
    """Keeps devices, pipes and sockets, such as `/dev/null`, which root could replace."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EEXIST, "Is there and no file, which would be replaced", str(path))


def make_directory(directory: pathlib.Path) -> None:
    """Makes a directory and its parents, each synced to the disk; it may exist.

    Raises:
        NotADirectoryError: there is a file in its place.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    sync(directory.parent)


def sync(path: pathlib.Path) -> None:
    """Waits until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process changes a file, and keeps others from changing it.

    The lock is on a file beside it, because the file itself is replaced. It ends with the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
