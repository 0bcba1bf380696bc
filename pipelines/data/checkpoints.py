"""Checkpoints of a job: from every source of `export`, and from Beam's filesystems.

What travels to a worker is where a checkpoint came from and its digest. A worker that does not
find the file gets it from there.
"""

import dataclasses
import hashlib
import os
import pathlib

from export.checkpoints.files import LABELS, described_variant, file_of_variant
from export.checkpoints.hub import HubSource
from export.checkpoints.sources import Checkpoint, CheckpointSource, RandomSource, checkpoint_source
from export.errors import CheckpointError
from export.variants import Variant
from signatures.addresses import is_url

from ..runtime.files import cache_directory, find_files, local_copy, read_bytes

_HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class UrlSource:
    """A directory, or a glob, of files as in `FileSource`, on one of Beam's filesystems.

    Attributes:
        pattern: the URL of the directory or the glob.
    """

    pattern: str
    trained: bool = True

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        """Copies a variant's file to this host's disk, unless it has been."""
        try:
            stamps = self._stamps()
            address = file_of_variant(self.pattern, list(stamps), variant, _read_if_there)
            return local_copy(address, stamps[address]), address
        except OSError as error:
            raise CheckpointError(f"--checkpoints {self.pattern}: {error}") from None

    def architecture(self) -> Variant | None:
        try:
            return described_variant(self.pattern, list(self._stamps()), _read_if_there)
        except OSError as error:
            raise CheckpointError(f"--checkpoints {self.pattern}: {error}") from None

    def _stamps(self) -> dict[str, str]:
        """Every file's address -> its stamp."""
        found = find_files(self.pattern) or find_files(f"{self.pattern.rstrip('/')}/*")
        return {file.address: file.stamp for file in found}


def _read_if_there(address: str) -> bytes | None:
    return read_bytes(address) if find_files(address, checksums=False) else None


def labels_beside(checkpoint: Checkpoint) -> tuple[str, bytes] | None:
    """The address and the content of the file of class names beside weights, if there is one.

    Raises:
        CheckpointError: it cannot be read.
    """
    if checkpoint.source == "random" or checkpoint.source.startswith(_HUB):
        return None
    directory, slash, _ = checkpoint.source.rpartition("/")
    address = f"{directory}{slash}{LABELS}"
    try:
        content = _read_if_there(address)
    except OSError as error:
        raise CheckpointError(f"{address}: cannot be read ({error})") from None
    return None if content is None else (address, content)


def open_source(value: str, revision: str | None = None) -> CheckpointSource:
    """The source that a value of `--checkpoints` names.

    Args:
        value: `hf`, `random`, a directory or a glob; local, or a URL.
        revision: branch, tag or commit of the hub's repositories.

    Raises:
        UserError: there is a revision, and the weights are not the hub's.
    """
    source = checkpoint_source(value, revision)
    return UrlSource(value) if is_url(value) else source


def on_this_worker(checkpoint: Checkpoint, variant: Variant) -> Checkpoint:
    """A checkpoint whose file is on this host's disk.

    Raises:
        CheckpointError: the file cannot be had here, or is not the one that the job began with.
    """
    if os.path.isfile(checkpoint.path):
        return checkpoint
    # The weights of a variant of another size are named after its origin.
    path, _ = _source_of(checkpoint).locate(
        variant.origin or variant, cache_directory() / checkpoint.sha256[:32]
    )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != checkpoint.sha256:
        raise CheckpointError(
            f"checkpoint {checkpoint.source}: SHA-256 {digest} on this worker; expected "
            f"{checkpoint.sha256}, as when the job began; run the job again"
        )
    return dataclasses.replace(checkpoint, path=str(path))


def _source_of(checkpoint: Checkpoint) -> CheckpointSource:
    if checkpoint.source == "random":
        return RandomSource()
    if checkpoint.source.startswith(_HUB):
        commit = checkpoint.source.removeprefix(_HUB).split("@", 1)[1].split("/", 1)[0]
        return HubSource(commit)
    if is_url(checkpoint.source):
        return UrlSource(checkpoint.source)
    raise CheckpointError(
        f"checkpoint {checkpoint.path}: not on this worker; expected --checkpoints with a URL that "
        "every worker can read, or a directory that all of them share"
    )
