"""Reading archives of the hub: what is in them, and unpacking them completely or not at all."""

import contextlib
import errno
import gzip
import hashlib
import os
import pathlib
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator
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


def extract_archive(
    archive: pathlib.Path,
    directory: pathlib.Path,
    check: Callable[[pathlib.Path], str | None] = lambda unpacked: None,
) -> None:
    """Unpacks an archive into a new directory, completely or not at all.

    An archive of a published tree has to have the files of its version's manifest. Another one may
    expand to `LARGEST` bytes. The archive is read once: what is checked is what is unpacked.

    Args:
        archive: the `.tar.gz`.
        directory: must not exist.
        check: says of the unpacked files why they are refused, before they are put in place.

    Raises:
        ConfigError: the archive is damaged, a member is not a plain file of a SavedModel, such as a
            link or a path that leads outside, it is larger than it may be, or `check` refuses it.
        OSError: the directory exists or cannot be written.
    """
    expected = _records_in_tree(archive)
    largest = LARGEST if expected is None else sum(record.size for record in expected)
    if os.path.lexists(directory):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(directory))
    unpacked = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    try:
        found = _unpack(archive, unpacked, largest)
        if expected is not None and (problems := difference(expected, found)):
            raise ConfigError(f"{archive}: {problems[0]}")
        if problem := check(unpacked):
            raise ConfigError(f"{archive}: {problem}; nothing was unpacked")
        unpacked.rename(directory)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack(archive: pathlib.Path, directory: pathlib.Path, largest: int) -> list[FileRecord]:
    try:
        with open_file(archive) as file, _opened(file, str(archive), largest) as tar:
            for name, content in _files(tar, str(archive)):
                target = directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as unpacked:
                    shutil.copyfileobj(content, unpacked)
    except OSError as error:
        named = error.filename or str(archive)
        raise OSError(error.errno, error.strerror, named) from None
    if not (directory / SAVED_MODEL).is_file():
        raise ConfigError(f"{archive}: no {SAVED_MODEL} at its root")
    names = [p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()]
    return [record_file(directory, name) for name in names]


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
        for path, content in _files(tar, name):
            # It is a BufferedReader, whatever the type says.
            digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]
            files[path] = FileRecord(path, content.tell(), digest.hexdigest())
    if SAVED_MODEL not in files:
        raise ConfigError(f"{name}: no {SAVED_MODEL} at its root")
    return tuple(files.values())


def archived_version(archive: pathlib.Path) -> tuple[str, str] | None:
    """The model and the version that an archive is of, by its path; None outside of a hub."""
    path = archive.absolute()
    if len(path.parts) < 5 or path.parents[2].name != HUB:
        return None
    return path.parent.name, path.name.removesuffix(".tar.gz")


def archived_signature(file: BinaryIO, name: str) -> bytes | None:
    """The signature in an archive that the pipeline wrote; None where it has none.

    Little is read: the signature comes before the model.

    Args:
        file: the archive, at its start.
        name: the archive's name, for error messages.

    Raises:
        ConfigError: the archive is damaged before that.
        OSError: it cannot be read.
    """
    with _damage_named(name), gzip.open(file) as unpacked:
        stream = _Bounded(unpacked, _SMALL, name)
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
            for member in tar:
                if member.name == SAVED_MODEL:
                    return None
                if member.isfile() and member.name == str(SIGNATURE):
                    content = tar.extractfile(member)
                    return content.read(_SMALL) if content else None
    return None


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
            content = tar.extractfile(member) if member.isfile() and member.name in wanted else None
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
    with _damage_named(name), gzip.open(file) as unpacked:
        stream = _Bounded(unpacked, largest, name)
        # It needs no more of a file than `_Bounded` has.
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
            yield tar
        # gzip checks its checksum at the end of the stream.
        while stream.read(_LARGEST_READ):
            pass


@contextlib.contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
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
    of = archived_version(archive)
    if of is None:
        return None
    directory = archive.absolute().parents[3] / version_path(*of)
    if not directory.is_dir():
        return None
    try:
        records = archived_files(load_manifest(directory).files)
    except ManifestError as error:
        raise ConfigError(str(error)) from None
    if (directory / SIGNATURE).exists():
        records += [record_file(directory, name) for name in SIGNED]
    return records


def _files(tar: tarfile.TarFile, archive: str) -> Iterator[tuple[str, BinaryIO]]:
    """Every file of an archive: its name, which is allowed, and its content.

    Raises:
        ConfigError: a member is not a plain file with such a name, or is there twice.
    """
    seen: set[str] = set()
    for member in tar:
        if member.isdir() and member.name in DIRECTORIES:
            continue
        # A sparse file would be larger than what was read of the archive.
        plain = member.isfile() and not member.issparse()
        content = tar.extractfile(member) if plain else None
        if content is None:
            raise ConfigError(f"{archive}: {member.name!r} is no plain file")
        if not allowed(member.name):
            raise ConfigError(
                f"{archive}: unexpected member {member.name!r}; expected "
                f"{', '.join((*INCLUDED, *SIGNED))}"
            )
        if member.name in seen:
            raise ConfigError(f"{archive}: member {member.name!r} twice; expected it once")
        seen.add(member.name)
        yield member.name, cast(BinaryIO, content)
