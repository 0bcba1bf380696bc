"""A published tree on a local disk, where a rename puts a directory in place at one instant."""

import contextlib
import errno
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from serving_configs.tree.atomic import write_atomically


class LocalStore:
    """A tree on a disk.

    Args:
        root: its directory.
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
        write_atomically(target, content)

    def put_directory(self, directory: pathlib.Path, path: str) -> None:
        target = self._root / path
        _make_directory(target.parent)
        directory.rename(target)

    def put_version(
        self, staged: str, names: Sequence[str], path: str, extra: Mapping[str, bytes]
    ) -> bool:
        target = self._root / path
        source = self._root / staged
        # Beside the staged model, and so on the tree's filesystem and gone with the run.
        built = source.with_name(f".{uuid.uuid4().hex}")
        try:
            for name in names:
                _link(source / name, built / name)
            for name, content in extra.items():
                (built / name).parent.mkdir(parents=True, exist_ok=True)
                (built / name).write_bytes(content)
            _sync_tree(built)
            _make_directory(target.parent)
            built.rename(target)
        except OSError as error:
            taken = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
            if error.errno in taken and os.path.lexists(target):
                return False
            raise
        finally:
            shutil.rmtree(built, ignore_errors=True)
        _sync(target.parent)
        return True

    def remove_version(self, path: str, aside: str) -> None:
        source = self._root / path
        moved = self._root / aside / f"removed-{uuid.uuid4().hex}"
        source.rename(moved)
        _sync(source.parent)
        shutil.rmtree(moved, ignore_errors=True)

    def remove(self, path: str) -> None:
        target = self._root / path
        with contextlib.suppress(FileNotFoundError):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()

    def clean(self, ttl: float) -> None:
        """Does nothing: all that a publisher leaves is in its staging area."""

    def require_writable(self) -> None:
        """Does nothing: the staging area, which is in the tree, shows it."""


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a file a second name, or a copy where the filesystem has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


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
