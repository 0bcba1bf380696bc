"""Reading archives of the hub: what is in them, and unpacking them completely or not at all."""

import contextlib
import gzip
import hashlib
import pathlib
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator
from typing import BinaryIO, cast

from ..errors import ConfigError
from ..tree.files import FileRecord, difference, open_file, record_file
from ..tree.manifest import ManifestError, load_manifest
from ..tree.paths import HUB, SAVED_MODEL, SIGNATURE, version_path
from .members import DIRECTORIES, INCLUDED, SIGNED, allowed, archived_files

LARGEST = 4 << 30
"""Bytes of all files of an archive whose manifest is not known; the largest variant has 1.5e9."""

_SMALL = 16 << 20
_MOST_MEMBERS = 1000
# tarfile reads a block or a part of a member at a time; more is a header that would fill memory.
_LARGEST_READ = 1 << 20


def extract_archive(archive: pathlib.Path, directory: pathlib.Path) -> None:
    """Checks an archive and unpacks it into a new directory, completely or not at all.

    An archive of a published tree has to have the files of its version's manifest. Another one may
    expand to `LARGEST` bytes.

    Raises:
        ConfigError: the archive is damaged, a member is not a plain file of a SavedModel, such as a
            link or a path that leads outside, or it is larger than it may be.
        OSError: the directory exists or cannot be written.
    """
    expected = _records_in_tree(archive)
    largest = LARGEST if expected is None else sum(record.size for record in expected)
    try:
        with open_file(archive) as file:
            found = check_archive(file, str(archive), largest)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(archive)) from None
    if expected is not None and (problems := difference(expected, found)):
        raise ConfigError(f"{archive}: {problems[0]}")
    directory.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue  # A directory.
                target = directory / member.name
                target.parent.mkdir(exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def check_archive(file: BinaryIO, name: str, largest: int = LARGEST) -> tuple[FileRecord, ...]:
    """Reads an archive to its end and checks the name and kind of every member.

    Args:
        file: the archive, at its start.
        name: the archive's name, for error messages.
        largest: the bytes that all of its files may have. No more are decompressed.

    Returns:
        The files, in the archive's order.

    Raises:
        ConfigError: as `extract_archive`.
        OSError: the archive cannot be read.
    """
    files: dict[str, FileRecord] = {}
    with _opened(file, name, largest) as tar:
        for member in tar:
            if member.isdir() and member.name in DIRECTORIES:
                continue
            if member.name in files:
                raise ConfigError(f"{name}: member {member.name!r} twice; expected it once")
            files[member.name] = _record_member(tar, member, name)
    if SAVED_MODEL not in files:
        raise ConfigError(f"{name}: no {SAVED_MODEL} at its root")
    return tuple(files.values())


def read_small_members(file: BinaryIO, name: str, wanted: Collection[str]) -> dict[str, bytes]:
    """The content of small files of an archive, such as its manifest.

    Args:
        file: the archive, at its start.
        name: the archive's name, for error messages.
        wanted: the members' names; those that are not there are left out.

    Raises:
        ConfigError: the archive is damaged, or such a member has more than 16 MiB.
        OSError: the archive cannot be read.
    """
    found = {}
    with _opened(file, name, LARGEST) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name in wanted else None
            if content is None:
                continue
            if member.size > _SMALL:
                raise ConfigError(
                    f"{name}: {member.name} has {member.size} bytes; expected at most {_SMALL}"
                )
            found[member.name] = content.read()
    return found


@contextlib.contextmanager
def _opened(file: BinaryIO, name: str, largest: int) -> Iterator[tarfile.TarFile]:
    """The members of an archive, whose checksum is checked at the end.

    Raises:
        ConfigError: the archive is damaged, or expands to more than `largest` bytes.
    """
    try:
        with gzip.open(file) as unpacked:
            stream = _Bounded(unpacked, largest, name)
            # It needs no more of a file than `_Bounded` has.
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
                yield tar
            # gzip checks its checksum at the end of the stream.
            while stream.read(_LARGEST_READ):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ConfigError(f"{name}: damaged ({error}); expected a .tar.gz") from None


class _Bounded:
    """The content of an archive, no more of it than the archive may have.

    Args:
        stream: the content.
        largest: bytes of all members; their headers and the padding come on top.
        name: the archive's name, for error messages.
    """

    def __init__(self, stream: gzip.GzipFile, largest: int, name: str) -> None:
        self._stream = stream
        self._largest = largest
        self._end = largest + _MOST_MEMBERS * 2 * tarfile.BLOCKSIZE + 2 * tarfile.RECORDSIZE
        self._name = name

    def read(self, size: int) -> bytes:
        if size > _LARGEST_READ:
            raise ConfigError(f"{self._name}: a header of {size} bytes; expected one of a few")
        self._require(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        self._require(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def _require(self, position: int) -> None:
        if position > self._end + _LARGEST_READ:
            raise ConfigError(
                f"{self._name}: expands to more than the {self._largest} bytes that are expected"
            )


def _records_in_tree(archive: pathlib.Path) -> list[FileRecord] | None:
    """The files that an archive of a published tree has; None where its version is not there.

    Raises:
        ConfigError: the version has no valid manifest.
        OSError: it cannot be read.
    """
    path = archive.absolute()
    if len(path.parts) < 5 or path.parents[2].name != HUB:
        return None
    version = version_path(path.parent.name, path.name.removesuffix(".tar.gz"))
    directory = path.parents[3] / version
    if not directory.is_dir():
        return None
    try:
        records = archived_files(load_manifest(directory).files)
    except ManifestError as error:
        raise ConfigError(str(error)) from None
    if (directory / SIGNATURE).exists():
        records += [record_file(directory, name) for name in SIGNED]
    return records


def _record_member(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: str) -> FileRecord:
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise ConfigError(f"{archive}: {member.name!r} is no plain file")
    if not allowed(member.name):
        raise ConfigError(
            f"{archive}: unexpected member {member.name!r}; expected "
            f"{', '.join((*INCLUDED, *SIGNED))}"
        )
    # It is a BufferedReader, whatever the type says.
    digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    return FileRecord(member.name, member.size, digest)
