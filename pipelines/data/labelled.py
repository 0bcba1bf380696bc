"""The data that models are evaluated on: labelled images, in shards that are evaluated apart."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence

from export.errors import UserError
from signatures.addresses import is_url

from ..runtime.files import InputFile, find_files, read_bytes
from .image_folder import ImageFile, ImageFolder, read_image_folder
from .shards import LABEL_KEY, read_shard

FILES_PER_SHARD = 500
"""Images of an ImageFolder that make a shard: what a run that is killed does again."""


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """An image and its class.

    Attributes:
        name: for messages.
        encoded: the JPEG or PNG.
        label: number of its class.
    """

    name: str
    encoded: bytes
    label: int


@dataclasses.dataclass(frozen=True)
class DataShard:
    """A part of the data: a TFRecord file, or some files of an ImageFolder.

    Attributes:
        name: for people, unique in a run.
        identity: hexadecimal, another one when the data is another or has changed.
        path: the TFRecord file, or the ImageFolder's root; absolute or a URL.
        files: of the ImageFolder; empty for a TFRecord file.
        first_label: what the records of a TFRecord file call class 0.
        classes: number of classes that a model has to have, where the labels are places in an
            order of all of them; None where any number will do that is above the labels.
        stamp: of a TFRecord file, see `runtime.files.InputFile`.
    """

    name: str
    identity: str
    path: str
    files: tuple[ImageFile, ...] = ()
    first_label: int = 0
    classes: int | None = None
    stamp: str = ""

    def read(self) -> Iterator[LabelledImage]:
        """The images, read one by one.

        Raises:
            UserError: a record is not as it has to be, or has no label.
            OSError: a file can't be read.
        """
        if self.files:
            for file in self.files:
                encoded = read_bytes(f"{self.path}/{file.name}")
                yield LabelledImage(file.name, encoded, file.label)
            return
        for image in read_shard(self.path, self.first_label, self.stamp):
            if image.label is None:
                raise UserError(
                    f"{self.path}: record {image.number} has no {LABEL_KEY}; expected the number "
                    "of its class"
                )
            yield LabelledImage(image.name, image.encoded, image.label)


def plan_data(patterns: Sequence[str], first_label: int = 0) -> tuple[DataShard, ...]:
    """Finds the data, and looks at the first record of each file of it.

    Args:
        patterns: a directory that holds an ImageFolder, or globs of TFRecord files.
        first_label: what the records call class 0.

    Raises:
        UserError: nothing is there, or it is not labelled images.
    """
    shards: list[DataShard] = []
    for pattern in patterns:
        try:
            files = find_files(pattern)
            if os.path.isdir(pattern) or (not files and _is_url_directory(pattern)):
                found = _folder_shards(read_image_folder(pattern, "--data"))
            else:
                found = [_record_shard(file, first_label) for file in files]
        except OSError as error:
            raise UserError(f"--data {pattern}: cannot be listed ({error})") from None
        if not found:
            raise UserError(
                f"--data {pattern}: no file matches; expected TFRecord files of labelled images, "
                "or a directory with one directory for each class"
            )
        shards += [shard for shard in found if shard not in shards]
    return tuple(shards)


def _is_url_directory(address: str) -> bool:
    return is_url(address) and bool(find_files(f"{address.rstrip('/')}/**", checksums=False))


def _record_shard(file: InputFile, first_label: int) -> DataShard:
    name = file.address.rsplit("/", 1)[-1]
    identity = _digest(file.address, file.size, file.stamp, first_label)
    shard = DataShard(name, identity, file.address, first_label=first_label, stamp=file.stamp)
    # An error of all records is found now, and not by every worker.
    next(shard.read(), None)
    return shard


def _folder_shards(folder: ImageFolder) -> list[DataShard]:
    name = folder.root.rsplit("/", 1)[-1]
    shards = []
    for start in range(0, len(folder.files), FILES_PER_SHARD):
        files = folder.files[start : start + FILES_PER_SHARD]
        stamps = folder.stamps[start : start + FILES_PER_SHARD]
        shards.append(
            DataShard(
                f"{name}[{start}:{start + len(files)}]",
                _digest(
                    folder.root, [dataclasses.astuple(f) for f in files], stamps, folder.ordered
                ),
                folder.root,
                files,
                classes=folder.ordered,
            )
        )
    return shards


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
