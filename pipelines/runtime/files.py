"""Input files wherever they are: on a disk, or on one of Beam's filesystems.

A file that is not on a disk is copied to the worker's, once for each host.
"""

import contextlib
import dataclasses
import glob
import hashlib
import os
import pathlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from signatures.addresses import is_url
from signatures.files import read_file

from ..filesystem import BLOCK_BYTES, open_file

_CACHED_SECONDS = 24 * 3600.0
"""How long a copy stays that nobody reads any more."""


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file that was found.

    Attributes:
        address: its absolute path, or its URL.
        size: in bytes.
        stamp: another one when its content has changed: the checksum where the filesystem tells
            one (the entity tag of an object store), else the time of the last change.
    """

    address: str
    size: int
    stamp: str


def set_filesystem_options(options: Mapping[str, Any]) -> None:
    """Gives Beam's filesystems their options in this process. Not every runner does on its workers.

    Args:
        options: all of the job's, by name.
    """
    FileSystems.set_options(PipelineOptions.from_dictionary(dict(options)))


def find_files(pattern: str, checksums: bool = True) -> list[InputFile]:
    """The files that a glob matches, in the order of their addresses.

    Args:
        pattern: a glob, local or with the URL of one of Beam's filesystems.
        checksums: whether to ask for the checksum of each file that is not local, which is a
            request for each; else its time stands for it.

    Raises:
        OSError: they cannot be listed. The message is for people.
    """
    if not is_url(pattern):
        # A name such as `[x]` is no pattern where it is a file's.
        matches = [pattern] if os.path.lexists(pattern) else glob.glob(pattern)
        paths = sorted(path for path in matches if os.path.isfile(path))
        return [describe_file(os.path.abspath(path)) for path in paths]
    try:
        (result,) = FileSystems.match([pattern])
    except Exception as error:  # Every filesystem has errors of its own.
        raise OSError(" ".join(str(error).split())) from error
    found = []
    for entry in sorted(result.metadata_list, key=lambda entry: entry.path):
        stamp = str(entry.last_updated_in_seconds)
        found.append(
            InputFile(
                entry.path,
                entry.size_in_bytes,
                _checksum(entry.path, stamp) if checksums else stamp,
            )
        )
    return found


def describe_file(path: str) -> InputFile:
    """A file of a disk.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(path)
    return InputFile(path, status.st_size, str(status.st_mtime_ns))


def _checksum(address: str, otherwise: str) -> str:
    try:
        return str(FileSystems.checksum(address))
    except Exception:  # Not every filesystem has checksums.
        return otherwise


def read_bytes(address: str) -> bytes:
    """The whole of a small file.

    Raises:
        OSError: it cannot be read.
    """
    if not is_url(address):
        return read_file(address)
    with open_file(address) as file:
        return file.read()


def local_copy(address: str, stamp: str = "") -> pathlib.Path:
    """A file on this host's disk: itself, or a copy that is kept for the next reader.

    Args:
        address: a local path or a URL.
        stamp: see `InputFile`; a file whose content has changed is copied again.

    Raises:
        OSError: it cannot be read, or no copy can be written.
    """
    if not is_url(address):
        return pathlib.Path(address)
    name = hashlib.sha256(f"{address}\n{stamp}".encode()).hexdigest()[:32]
    # With its own name at the end: a reader may tell the format by it.
    target = cache_directory() / name / address.rsplit("/", 1)[-1]
    if not target.exists():
        _remove_unread()
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}")
        try:
            with open_file(address) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, BLOCK_BYTES)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
    os.utime(target)
    return target


def cache_directory() -> pathlib.Path:
    """Where this host keeps its copies."""
    return pathlib.Path(tempfile.gettempdir()) / f"cait-inputs-{os.getuid()}"


def _remove_unread() -> None:
    for path in cache_directory().glob("*/*"):
        with contextlib.suppress(OSError):  # Another worker of this host removes it too.
            if path.stat().st_mtime < time.time() - _CACHED_SECONDS:
                path.unlink()
                path.parent.rmdir()
