"""The files of a version on a disk: records of them, and what does not belong among them."""

import dataclasses
import errno
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal

from .paths import MANIFEST, SIGNATURE

UNLISTED = frozenset((str(MANIFEST), str(SIGNATURE)))
"""Files of a version that its manifest cannot list: itself, and the signature of itself."""

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
"""Permissions of what is published, whatever the publisher's umask: servers are other users."""

# What is meant to stay for ever may be made read-only.
_FILE_MODES = (FILE_MODE, 0o444)
_DIRECTORY_MODES = (DIRECTORY_MODE, 0o555)
# A directory may have its group from the one above it.
_COMPARED = 0o7777 & ~stat.S_ISGID
# TensorFlow's writer makes it in every model, and earlier versions published it.
_MAYBE_EMPTY = "assets"


@dataclasses.dataclass(frozen=True, order=True)
class FileRecord:
    """A file of a version.

    Attributes:
        path: relative to the version, with `/` between its parts.
        size: in bytes.
        sha256: of its content, in hexadecimal.
    """

    path: str
    size: int
    sha256: str


def record_files(directory: pathlib.Path) -> tuple[FileRecord, ...]:
    """Records every file of a directory but those of `UNLISTED`, in the order of their paths.

    What is no file, such as a link or a pipe, is neither read nor recorded: see `foreign_entries`.

    Raises:
        OSError: a file cannot be read.
    """
    records = []
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if name in UNLISTED or not stat.S_ISREG(path.lstat().st_mode):
            continue
        records.append(record_file(directory, name))
    return tuple(records)


def record_file(directory: pathlib.Path, name: str) -> FileRecord:
    """Records one file of a directory.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_file(directory / name) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        return FileRecord(name, os.fstat(file.fileno()).st_size, digest)


def open_file(path: pathlib.Path) -> BinaryIO:
    """Opens a file for reading. A pipe, which would keep its reader waiting, is refused.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    # Without waiting for somebody who writes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return os.fdopen(descriptor, "rb")


def difference(expected: Iterable[FileRecord], found: Iterable[FileRecord]) -> list[str]:
    """The differences between the files of a manifest and of a version, a line for each."""
    recorded, present = ({r.path: r for r in records} for records in (expected, found))
    problems = []
    for path in sorted(recorded.keys() | present.keys()):
        old, new = recorded.get(path), present.get(path)
        if new is None:
            problems.append(f"{path} is missing")
        elif old is None:
            problems.append(f"{path} is not in the manifest")
        elif new.size != old.size:
            problems.append(f"{path} has {new.size} bytes; expected {old.size}")
        elif new.sha256 != old.sha256:
            problems.append(f"{path} has SHA-256 {new.sha256}; expected {old.sha256}")
    return problems


@dataclasses.dataclass(frozen=True)
class Foreign:
    """What a tree holds at a path that no publish run leaves there.

    Attributes:
        path: with `/` between its parts; empty for the place that was looked at.
        problem: what it is, and what was expected.
        kind: `special` for what is neither file nor directory, `empty` for an empty directory,
            `mode` for a file or directory with other permissions.
    """

    path: str
    problem: str
    kind: Literal["special", "empty", "mode"]

    def __str__(self) -> str:
        return f"{self.path} {self.problem}".lstrip()


def foreign_entries(path: pathlib.Path) -> tuple[Foreign, ...]:
    """What is at and below a path of the tree that no publish run leaves there.

    That is everything but files and directories with a file, and other permissions than
    `FILE_MODE` and `DIRECTORY_MODE`, or the same without the right to write.

    Args:
        path: a file, a directory, or nothing. A link is not followed.

    Raises:
        OSError: a directory cannot be read.
    """
    return tuple(_foreign(path, "")) if os.path.lexists(path) else ()


def content_problems(
    expected: Iterable[FileRecord], found: Iterable[FileRecord], foreign: Iterable[Foreign]
) -> list[str]:
    """The differences between the files of a manifest and what a version holds, a line for each.

    A foreign entry in the place of a file is one problem: that file is not missing, too.
    """
    replaced = [entry.path for entry in foreign if entry.kind != "mode"]

    def compared(records: Iterable[FileRecord]) -> Iterator[FileRecord]:
        for record in records:
            if not any(not path or f"{record.path}/".startswith(f"{path}/") for path in replaced):
                yield record

    return [*map(str, foreign), *difference(compared(expected), compared(found))]


def _foreign(path: pathlib.Path, name: str) -> Iterator[Foreign]:
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        yield Foreign(name, f"is {_kind(mode)}; expected a file or a directory", "special")
        return
    modes = _FILE_MODES if stat.S_ISREG(mode) else _DIRECTORY_MODES
    if mode & _COMPARED not in modes:
        expected = " or ".join(f"{allowed:04o}" for allowed in modes)
        found = f"has permissions {stat.S_IMODE(mode):04o}; expected {expected}"
        yield Foreign(name, found, "mode")
    if stat.S_ISREG(mode):
        return
    entries = sorted(path.iterdir())
    if not entries and name != _MAYBE_EMPTY:
        yield Foreign(name, "is an empty directory; expected none", "empty")
    for entry in entries:
        yield from _foreign(entry, f"{name}/{entry.name}".lstrip("/"))


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
