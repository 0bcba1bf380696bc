"""Archives of the hub: a SavedModel as `.tar.gz`, the same bytes for the same files.

An archive contains the SavedModel with its variables and assets, and of a signed version the
signature with the manifest that it is of. Files for servers (warm-up requests, batching) stay in
the directory of the version, and so does the manifest of a version that is not signed. The hub's
validator accepts all names.
"""

import fnmatch
import gzip
import hashlib
import io
import pathlib
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from ..errors import ConfigError
from ..tree.atomic import open_atomically
from ..tree.files import FileRecord
from ..tree.paths import HUB, MANIFEST, SAVED_MODEL, SIGNATURE

# They are members of their own: tensorflow_hub makes no other directories when it unpacks.
_DIRECTORIES = ("assets", str(SIGNATURE.parent), "variables")
# Bytes that are compressed at a time. `tarfile` writes a few kilobytes at a time: threads that
# compress so little would mostly wait for each other.
_CHUNK = 1 << 20
_SMALL = 16 << 20
_INCLUDED = (
    SAVED_MODEL,
    "keras_metadata.pb",
    "fingerprint.pb",
    "assets/*",
    "variables/variables.*",
)
_SIGNED = (str(MANIFEST), str(SIGNATURE))


def hub_root(publish_to: str) -> pathlib.Path:
    """The directory of archives, pages and metadata; a static site."""
    return pathlib.Path(publish_to) / HUB


def archive_name(publisher: str, model: str, version: int) -> str:
    """An archive's path under the hub's root."""
    return f"{publisher}/{model}/{version}.tar.gz"


def write_archive(directory: pathlib.Path, archive: pathlib.Path, replace: bool = False) -> bool:
    """Archives a version, unless the archive exists: versions do not change.

    Args:
        directory: the version's.
        archive: becomes the `.tar.gz`, by one rename.
        replace: whether an archive that exists is written anew, after a version was signed.

    Returns:
        Whether the archive was written.

    Raises:
        ConfigError: the version has no `saved_model.pb`, or a link in the place of a file.
        OSError: the archive cannot be written.
    """
    if archive.exists() and not replace:
        return False
    names = sorted(_members(directory))
    folders = sorted({name.rpartition("/")[0] for name in names} - {""})
    if SAVED_MODEL not in names:
        raise ConfigError(f"{directory}: no {SAVED_MODEL}; expected a SavedModel")
    with (
        open_atomically(archive) as temporary,
        temporary.open("wb") as file,
        io.BufferedWriter(_Compressed(file), _CHUNK) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name in names:
            path = directory / name
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)
    return True


class _Compressed(io.RawIOBase):
    """A gzip stream without a name or a time in its header.

    It only uses Huffman codes: weights have no repetitions, and searching for them would take three
    times as long.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # zlib writes gzip's header and trailer where 16 is added to the window's size.
        self._deflate = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY, wbits=16 + zlib.MAX_WBITS)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(self._deflate.compress(data))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.write(self._deflate.flush())
        super().close()


def extract_archive(archive: pathlib.Path, directory: pathlib.Path) -> None:
    """Checks an archive and unpacks it into a new directory, completely or not at all.

    Raises:
        ConfigError: the archive is damaged, or a member is not a plain file of a SavedModel, such
            as a link or a path that leads outside.
        OSError: the directory exists or cannot be written.
    """
    with archive.open("rb") as file:
        check_archive(file, str(archive))
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


def check_archive(file: BinaryIO, name: str) -> tuple[FileRecord, ...]:
    """Reads an archive to its end and checks the name and kind of every member.

    Args:
        file: the archive, at its start.
        name: the archive's name, for error messages.

    Returns:
        The files, in the archive's order.

    Raises:
        ConfigError: as `extract_archive`.
        OSError: the archive cannot be read.
    """
    files: dict[str, FileRecord] = {}
    try:
        with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.isdir() and member.name in _DIRECTORIES:
                    continue
                if member.name in files:
                    raise ConfigError(f"{name}: member {member.name!r} twice; expected it once")
                files[member.name] = _record_member(tar, member, name)
            # gzip checks its checksum at the end of the stream.
            while stream.read(_CHUNK):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ConfigError(f"{name}: damaged ({error}); expected a .tar.gz") from None
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
    try:
        with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name in wanted else None
                if content is None:
                    continue
                if member.size > _SMALL:
                    raise ConfigError(
                        f"{name}: {member.name} has {member.size} bytes; expected at most {_SMALL}"
                    )
                found[member.name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ConfigError(f"{name}: damaged ({error}); expected a .tar.gz") from None
    return found


def _record_member(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: str) -> FileRecord:
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise ConfigError(f"{archive}: {member.name} is no plain file")
    if not _allowed(member.name):
        raise ConfigError(
            f"{archive}: unexpected member {member.name!r}; expected "
            f"{', '.join((*_INCLUDED, *_SIGNED))}"
        )
    # It is a BufferedReader, whatever the type says.
    digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    return FileRecord(member.name, member.size, digest)


def _members(directory: pathlib.Path) -> Iterator[str]:
    signed = (directory / SIGNATURE).exists()
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if name in _SIGNED and not signed:
            continue
        if _allowed(name) and not path.is_dir():
            if path.is_symlink():
                raise ConfigError(f"{path}: a link; expected a plain file")
            yield name


def _allowed(name: str) -> bool:
    # `*` of a pattern matches `..` and subdirectories, too.
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in (*_INCLUDED, *_SIGNED))
