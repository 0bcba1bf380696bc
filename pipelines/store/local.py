"""A published tree on a local disk, where a rename puts a directory in place at one instant."""

import contextlib
import errno
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from serving_configs.tree.atomic import make_directory, sync, write_atomically


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
        write_atomically(self._root / path, content)

    def put_directory(self, directory: pathlib.Path, path: str) -> None:
        target = self._root / path
        make_directory(target.parent)
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
            make_directory(target.parent)
            built.rename(target)
        except OSError as error:
            taken = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
            if error.errno in taken and os.path.lexists(target):
                return False
            raise
        finally:
            shutil.rmtree(built, ignore_errors=True)
        sync(target.parent)
        return True

    def remove_version(self, path: str, aside: str) -> None:
        source = self._root / path
        moved = self._root / aside / f"removed-{uuid.uuid4().hex}"
        source.rename(moved)
        sync(source.parent)
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


def _sync_tree(root: pathlib.Path) -> None:
    for directory, _, files in os.walk(root):
        for name in files:
            sync(pathlib.Path(directory) / name)
        sync(pathlib.Path(directory))
