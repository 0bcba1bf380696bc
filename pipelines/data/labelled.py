"""The data that models are evaluated on: labelled images, in shards that are evaluated apart."""

import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence

from export.errors import UserError
from signatures.addresses import is_url
from signatures.image_header import ImageHeaderError, check_image_header
from signatures.other_formats import ConversionError, as_png, is_jpeg_or_png

from ..runtime.files import InputFile, find_files, read_bytes
from .class_names import ModelClasses
from .formats import EXPECTED
from .image_folder import SUFFIXES, ImageFile, ImageFolder, read_image_folder
from .shards import SampleImage, read_shard

FILES_PER_SHARD = 500
"""Images of an ImageFolder that make a shard: what a run that is killed does again."""


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """An image and its class.

    Attributes:
        name: for messages.
        encoded: the JPEG or PNG; or a file that is no image, which a model refuses.
        label: number of its class.
        converted: Pillow's name of the format that it was converted to PNG from, or empty.
        undecodable: why it is not converted; empty if a model is to be asked.
        left_out: why it is not to be measured; empty if it is.
    """

    name: str
    encoded: bytes
    label: int
    converted: str = ""
    undecodable: str = ""
    left_out: str = ""


@dataclasses.dataclass(frozen=True)
class DataShard:
    """A part of the data: a file of many images, or some files of an ImageFolder.

    Attributes:
        name: for people, unique in a run.
        identity: hexadecimal, another one when the data is another or has changed.
        path: the file, or the ImageFolder's root; absolute or a URL.
        files: of the ImageFolder; empty for a file of many images.
        first_label: what that file calls class 0; None for what is usual for its layout.
        numbers: the file's number of a class -> the model's; empty where they are the same.
        stamp: of that file, see `runtime.files.InputFile`.
        only_jpeg_png: whether images of other formats are left out, in place of being converted.
        left_out: names of files that belong to no class, and why.
    """

    name: str
    identity: str
    path: str
    files: tuple[ImageFile, ...] = ()
    first_label: int | None = None
    numbers: tuple[int, ...] = ()
    stamp: str = ""
    only_jpeg_png: bool = False
    left_out: tuple[str, ...] = ()

    def read(self) -> Iterator[LabelledImage]:
        """The images, read one by one.

        Raises:
            UserError: a record is not as it has to be, or has no label.
            OSError: a file can't be read.
        """
        if self.files:
            for file in self.files:
                encoded = read_bytes(f"{self.path}/{file.name}")
                named = file.name.lower().endswith(SUFFIXES)
                yield labelled_image(file.name, encoded, file.label, self.only_jpeg_png, named)
            return
        for image in read_shard(self.path, self.first_label, self.stamp, convert=False):
            label = require_label(self.path, image)
            if self.numbers:
                label = self._number(image, label)
            yield labelled_image(image.name, image.encoded, label, self.only_jpeg_png)

    def _number(self, image: SampleImage, label: int) -> int:
        if label >= len(self.numbers):
            raise UserError(
                f"{self.path}: {image.place} has {image.label_key} {label}; its own description "
                f"has {len(self.numbers)} classes"
            )
        return self.numbers[label]


def labelled_image(
    name: str, encoded: bytes, label: int, only_jpeg_png: bool, meant: bool = True
) -> LabelledImage:
    """An image as it is measured: a JPEG or PNG as it is, one of another format as a PNG of it.

    Args:
        name: for messages.
        encoded: content of its file.
        label: number of its class.
        only_jpeg_png: whether images of other formats are left out instead.
        meant: whether the file is meant for an image; else it is left out if it is none.
    """
    if is_jpeg_or_png(encoded):
        return LabelledImage(name, encoded, label)
    try:
        if only_jpeg_png:
            check_image_header(encoded)
        png, kind = as_png(encoded)
    except ConversionError as error:
        return LabelledImage(name, b"", label, undecodable=str(error))
    except ImageHeaderError as error:
        if only_jpeg_png or not meant:
            return LabelledImage(name, b"", label, left_out=str(error))
        return LabelledImage(name, encoded, label)
    return LabelledImage(name, png, label, converted=kind)


def require_label(path: str, image: SampleImage) -> int:
    """The class of an image.

    Raises:
        UserError: the file has none.
    """
    if image.label is None:
        raise UserError(
            f"{path}: {image.place} has no {image.label_key}; expected the number of its class"
        )
    return image.label


def plan_data(
    patterns: Sequence[str],
    classes: ModelClasses,
    first_label: int | None = None,
    only_jpeg_png: bool = False,
) -> tuple[DataShard, ...]:
    """Finds the data, and looks at the first record of each file of it.

    Args:
        patterns: a directory that holds an ImageFolder, or globs of files of many images.
        classes: of the model that it is for.
        first_label: what those call class 0; None for what is usual for their layout.
        only_jpeg_png: whether images of other formats are left out, in place of being converted.

    Raises:
        UserError: nothing is there, it is not labelled images, or not of the model's classes.
    """
    shards: list[DataShard] = []
    for pattern in patterns:
        try:
            files = find_files(pattern)
            if not files and is_directory(pattern):
                folder = read_image_folder(pattern, "--data", classes)
                found = _folder_shards(folder, only_jpeg_png)
            else:
                found = [_file_shard(file, classes, first_label, only_jpeg_png) for file in files]
        except OSError as error:
            raise UserError(f"--data {pattern}: cannot be listed ({error})") from None
        if not found:
            raise UserError(
                f"--data {pattern}: no file matches; expected a directory with one directory for "
                f"each class, or {EXPECTED}, of labelled images"
            )
        shards += [shard for shard in found if shard not in shards]
    return tuple(shards)


def is_directory(address: str) -> bool:
    """Whether files are below a path or a URL.

    Raises:
        OSError: it cannot be listed.
    """
    if not is_url(address):
        return os.path.isdir(address)
    return bool(find_files(f"{glob.escape(address.rstrip('/'))}/**", checksums=False))


def _file_shard(
    file: InputFile, classes: ModelClasses, first_label: int | None, only_jpeg_png: bool
) -> DataShard:
    # An error of all images is found now, and not by every worker.
    first = next(read_shard(file.address, first_label, file.stamp, convert=False), None)
    if first is not None:
        require_label(file.address, first)
    numbers: tuple[int, ...] = ()
    if first is not None and first.classes:
        numbers = classes.number_classes(first.classes, f"--data {file.address}")
    return DataShard(
        file.address.rsplit("/", 1)[-1],
        _digest(file.address, file.size, file.stamp, first_label, only_jpeg_png, numbers),
        file.address,
        first_label=first_label,
        numbers=numbers,
        stamp=file.stamp,
        only_jpeg_png=only_jpeg_png,
    )


def _folder_shards(folder: ImageFolder, only_jpeg_png: bool) -> list[DataShard]:
    name = folder.root.rsplit("/", 1)[-1]
    shards = []
    for start in range(0, len(folder.files), FILES_PER_SHARD):
        files = folder.files[start : start + FILES_PER_SHARD]
        stamps = folder.stamps[start : start + FILES_PER_SHARD]
        # What is in no class is counted once.
        left_out = folder.left_out if not start else ()
        places = [dataclasses.astuple(f) for f in files]
        shards.append(
            DataShard(
                f"{name}[{start}:{start + len(files)}]",
                _digest(folder.root, places, stamps, only_jpeg_png, left_out),
                folder.root,
                files,
                only_jpeg_png=only_jpeg_png,
                left_out=left_out,
            )
        )
    return shards


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
