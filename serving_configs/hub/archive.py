"""Archives of the hub: a SavedModel as `.tar.gz`, the same bytes for the same files.

An archive has what a consumer reads: the SavedModel with its variables and assets. What is made
for a server (warm-up requests, batching) or of measurements (the manifest) stays in the version's
directory. The names are among those that the hub's validator lets pass.
"""

import fnmatch
import gzip
import hashlib
import io
import pathlib
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import ConfigError
from ..tree.atomic import open_atomically
from ..tree.manifest import FileRecord

# Directories have members of their own: tensorflow_hub makes no others when it unpacks.
_DIRECTORIES = ("assets", "variables")
# What is compressed at a time. Python's archives are written by a few kilobytes: threads that
# compress so little would mostly wait for each other.
_CHUNK = 1 << 20
_INCLUDED = (
    "saved_model.pb",
    "keras_metadata.pb",
    "fingerprint.pb",
    "assets/*",
    "variables/variables.*",
)


def hub_root(publish_to: str) -> pathlib.Path:
    """The directory that holds archives, pages and metadata; it can be served as it is."""
    return pathlib.Path(publish_to) / "hub"


def archive_name(publisher: str, model: str, version: int) -> str:
    """An archive's path under the hub's root."""
    return f"{publisher}/{model}/{version}.tar.gz"


def write_archive(directory: pathlib.Path, archive: pathlib.Path) -> bool:
    """Archives a version, unless that was done before: what was published does not change.

    Args:
        directory: the version's.
        archive: becomes the `.tar.gz`, by one rename.

    Returns:
        Whether it was written.

    Raises:
        ConfigError: the version has no `saved_model.pb`, or a link where a file is expected.
        OSError: it cannot be written.
    """
    if archive.exists():
        return False
    names = sorted(_members(directory))
    folders = sorted({name.rpartition("/")[0] for name in names} - {""})
    if "saved_model.pb" not in names:
        raise ConfigError(f"{directory}: no saved_model.pb; expected a SavedModel")
    archive.parent.mkdir(parents=True, exist_ok=True)
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
    """A stream of gzip without a name or a time in its header.

    Weights do not repeat themselves: looking for it takes three times as long, and gains nothing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # 16 more than the largest window: gzip's header and trailer.
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
    """Unpacks an archive into a directory that does not exist yet; whole or not at all.

    Raises:
        ConfigError: it is no archive of the hub: damaged, or with a member that is not a plain
            file of a SavedModel, such as a link or a path that leads outside.
        OSError: the directory exists or cannot be written.
    """
    check_archive(archive)
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


def check_archive(archive: pathlib.Path) -> tuple[FileRecord, ...]:
    """Reads an archive to its end and checks the name and kind of every member.

    Returns:
        The files, in the archive's order.

    Raises:
        ConfigError: as `extract_archive`.
        OSError: it cannot be read.
    """
    with archive.open("rb") as file:
        return read_archive(file, str(archive))


def read_archive(file: BinaryIO, name: str) -> tuple[FileRecord, ...]:
    """The same for an archive that is open, from wherever it comes.

    Args:
        file: the archive, read once from here to its end.
        name: of the archive, for the errors.
    """
    files: dict[str, FileRecord] = {}
    try:
        with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.isdir() and member.name in _DIRECTORIES:
                    continue
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    raise ConfigError(f"{name}: {member.name} is no plain file")
                if not _allowed(member.name) or member.name in files:
                    raise ConfigError(
                        f"{name}: unexpected member {member.name!r}; expected "
                        f"{', '.join(_INCLUDED)}, each once"
                    )
                digest = hashlib.sha256()
                while block := content.read(1 << 20):
                    digest.update(block)
                files[member.name] = FileRecord(member.name, member.size, digest.hexdigest())
            # To the end, where gzip's check of everything is.
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ConfigError(f"{name}: damaged ({error}); expected a .tar.gz") from None
    if "saved_model.pb" not in files:
        raise ConfigError(f"{name}: no saved_model.pb at its root")
    return tuple(files.values())


def _members(directory: pathlib.Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if _allowed(name) and not path.is_dir():
            if path.is_symlink():
                raise ConfigError(f"{path}: a link; an archive holds plain files only")
            yield name


def _allowed(name: str) -> bool:
    # `*` of a pattern would take `..` and further folders as well.
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _INCLUDED)
