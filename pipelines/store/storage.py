"""The published tree as a release sees it, on a local disk or on any of Beam's filesystems.

Paths are relative to the root, with `/` between their parts, as `serving_configs.tree` makes them.
"""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
import uuid
from typing import BinaryIO, Protocol

from serving_configs import MANIFEST


class Storage(Protocol):
    """Where a published tree lies."""

    def address(self, path: str) -> str:
        """How others name a path of the tree."""

    def children(self, path: str) -> list[str]:
        """Names directly below a path, sorted; none where there is nothing."""

    def sizes(self, path: str) -> dict[str, int]:
        """Every file below a path, by its path from there -> its size in bytes."""

    def open(self, path: str) -> BinaryIO:
        """Opens a file for reading.

        Raises:
            OSError: it is not there or cannot be read.
        """

    def write(self, path: str, content: bytes) -> None:
        """Puts a file in place, whole, over one that may be there.

        Raises:
            OSError: it cannot be written.
        """

    def put_version(self, directory: pathlib.Path, path: str, manifest: bytes) -> bool:
        """Puts a version in place, so that no reader ever takes half of it for a version.

        Args:
            directory: its files, on a local disk. May be moved.
            path: where to, such as `serving/<model>/<version>`.
            manifest: of this version.

        Returns:
            False when another publisher took the path; nothing was changed then.

        Raises:
            OSError: it cannot be written; what was written is gone again, or no version to any
                reader.
        """

    def remove_version(self, path: str, aside: pathlib.Path) -> None:
        """Takes a version away, so that no reader ever takes what is left for a version.

        Args:
            path: the version.
            aside: a directory of the staging area.
        """

    def clean(self, ttl: float) -> None:
        """Removes what publishers that died left behind, once it is older than `ttl` seconds."""

    def require_writable(self) -> None:
        """Tries whether files can be put there, and leaves none.

        Raises:
            UserError: they can't.
        """


class LocalStorage:
    """A tree on a disk, where a rename puts a whole directory in place at one instant.

    Args:
        root: the tree. Staged directories have to be on the same filesystem.
    """

    def __init__(self, root: str) -> None:
        self._root = pathlib.Path(root)

    def address(self, path: str) -> str:
        return str(self._root / path)

    def children(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root / path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, path: str) -> dict[str, int]:
        top = self._root / path
        return {
            file.relative_to(top).as_posix(): file.stat().st_size
            for file in sorted(top.rglob("*"))
            if not file.is_dir()
        }

    def open(self, path: str) -> BinaryIO:
        return open(self._root / path, "rb")

    def write(self, path: str, content: bytes) -> None:
        target = self._root / path
        _make_directory(target.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = pathlib.Path(name)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # What mkstemp makes is for its owner alone; readers may be other users.
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def put_version(self, directory: pathlib.Path, path: str, manifest: bytes) -> bool:
        inside = directory / MANIFEST
        inside.parent.mkdir(exist_ok=True)
        inside.write_bytes(manifest)
        _sync_tree(directory)
        target = self._root / path
        _make_directory(target.parent)
        try:
            directory.rename(target)
        except OSError as error:
            taken = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
            if error.errno in taken and os.path.lexists(target):
                return False
            raise
        _sync(target.parent)
        return True

    def remove_version(self, path: str, aside: pathlib.Path) -> None:
        source = self._root / path
        moved = aside / f"removed-{uuid.uuid4().hex}"
        source.rename(moved)
        _sync(source.parent)
        shutil.rmtree(moved, ignore_errors=True)

    def clean(self, ttl: float) -> None:
        """Does nothing: all that a publisher leaves is in the staging area."""

    def require_writable(self) -> None:
        """Does nothing: the staging area, which is in the tree, shows it."""


def open_storage(publish_to: str) -> Storage:
    """The storage of a published tree.

    Args:
        publish_to: a local path, or a URL of one of Beam's filesystems.

    Raises:
        UserError: there is no such filesystem.
    """
    if not is_remote(publish_to):
        return LocalStorage(publish_to)
    # Here, because a publisher to a local disk has no need of Beam's filesystems.
    from .beam import BeamStorage

    return BeamStorage(publish_to)


def is_remote(publish_to: str) -> bool:
    """Whether a tree is on one of Beam's filesystems, not on a local disk."""
    return "://" in publish_to


def read(storage: Storage, path: str) -> bytes:
    """The whole of a small file.

    Raises:
        OSError: it is not there or cannot be read.
    """
    with storage.open(path) as file:
        return file.read()


def _make_directory(directory: pathlib.Path) -> None:
    """Makes a directory and those above it, and waits until they are on the disk."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    _sync(directory.parent)


def _sync_tree(root: pathlib.Path) -> None:
    for directory, _, files in os.walk(root):
        for name in files:
            _sync(pathlib.Path(directory) / name)
        _sync(pathlib.Path(directory))


def _sync(path: pathlib.Path) -> None:
    """Waits until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
