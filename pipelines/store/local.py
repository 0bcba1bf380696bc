"""A published tree on a local disk, where a rename puts a directory in place at one instant."""

import contextlib
import errno
import os
import pathlib
import shutil
import stat
import uuid
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from serving_configs.tree.atomic import make_directory, sync, write_atomically
from serving_configs.tree.files import (
    DIRECTORY_MODE,
    FILE_MODE,
    Foreign,
    foreign_entries,
    open_file,
)


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
        found = ((file, file.lstat()) for file in sorted(top.rglob("*")))
        return {
            file.relative_to(top).as_posix(): status.st_size
            for file, status in found
            if stat.S_ISREG(status.st_mode)
        }

    def foreign(self, path: str) -> tuple[Foreign, ...]:
        return foreign_entries(self._root / path)

    def open(self, path: str) -> BinaryIO:
        return open_file(self._root / path)

    def write(self, path: str, content: bytes) -> None:
        target = self._root / path
        make_directory(target.parent)
        # At the root, because a version has no other files than its manifest says.
        write_atomically(target, content, scratch=self._root)

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
            _finish(built)
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
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()

    def clean(self, ttl: float) -> None:
        """Does nothing: all that a publisher leaves is in its staging area."""

    def require_writable(self) -> None:
        """Does nothing: the staging area, which is in the tree, shows it."""


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a file a second name, or a copy where that cannot be.

    It cannot where the filesystem has no hard links, and where the file is another user's.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
        target.chmod(FILE_MODE)
    except FileNotFoundError:
        raise
    except OSError:
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def _finish(root: pathlib.Path) -> None:
    """Gives everything its permissions, and waits until it is on the disk."""
    for directory, _, files in os.walk(root):
        for path, mode in [
            *((pathlib.Path(directory, name), FILE_MODE) for name in files),
            (pathlib.Path(directory), DIRECTORY_MODE),
        ]:
            # Not every filesystem has permissions.
            with contextlib.suppress(PermissionError):
                path.chmod(mode)
            sync(path)
