"""Archives of the hub: a SavedModel as `.tar.gz`, the same bytes for the same files.

An archive contains the SavedModel with its variables and assets, and of a signed version the
signature with the manifest that it is of. Files for servers (warm-up requests, batching) stay in
the directory of the version, and so does the manifest of a version that is not signed. The hub's
validator accepts all names.
"""

import io
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ..errors import ConfigError
from ..tree.atomic import open_atomically
from ..tree.paths import HUB, SAVED_MODEL, SIGNATURE
from .members import SIGNED, allowed
from .reader import archived_signature

# Bytes that are compressed at a time. `tarfile` writes a few kilobytes at a time: threads that
# compress so little would mostly wait for each other.
_CHUNK = 1 << 20


def hub_root(publish_to: str) -> pathlib.Path:
    """The directory of archives, pages and metadata; a static site."""
    return pathlib.Path(publish_to) / HUB


def archive_name(publisher: str, model: str, version: int) -> str:
    """An archive's path under the hub's root."""
    return f"{publisher}/{model}/{version}.tar.gz"


def write_archive(directory: pathlib.Path, archive: pathlib.Path) -> bool:
    """Archives a version, unless the archive exists: versions do not change.

    It is written anew where the version was signed after it was archived.

    Args:
        directory: the version's.
        archive: becomes the `.tar.gz`, by one rename.

    Returns:
        Whether the archive was written.

    Raises:
        ConfigError: the version has no `saved_model.pb`, or a link in the place of a file.
        OSError: the archive cannot be written.
    """
    if archive.exists() and has_signature_of(lambda: archive.open("rb"), str(archive), directory):
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


def has_signature_of(
    open_archive: Callable[[], BinaryIO], name: str, directory: pathlib.Path
) -> bool:
    """Whether an archive has its version's signature. It is not opened where there is none.

    Args:
        open_archive: opens the archive at its start.
        name: the archive's name, for error messages.
        directory: the version's.

    Raises:
        ConfigError: the archive is damaged.
        OSError: a file cannot be read.
    """
    signature = directory / SIGNATURE
    if not signature.exists():
        return True
    with open_archive() as file:
        return archived_signature(file, name) == signature.read_bytes()


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


def _members(directory: pathlib.Path) -> Iterator[str]:
    signed = (directory / SIGNATURE).exists()
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if name in SIGNED and not signed:
            continue
        if allowed(name) and not path.is_dir():
            if path.is_symlink():
                raise ConfigError(f"{path}: a link; expected a plain file")
            yield name
