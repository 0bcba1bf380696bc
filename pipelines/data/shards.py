"""The sample, and every other file of many images: records, tables and archives."""

import dataclasses
from collections.abc import Iterator, Sequence

from export.errors import UserError
from export.reference.preprocessing import UndecodableImageError, load_pixels
from signatures.image_header import ImageHeaderError
from signatures.other_formats import as_png, is_jpeg_or_png

from ..elements import Shard
from ..runtime.files import InputFile, find_files, local_copy
from .formats import EXPECTED, reader_of
from .records import LABEL_KEY

ATTENTION_IMAGES = 2
"""Images of the sample whose attention is compared. Every block is, so two are enough."""


@dataclasses.dataclass(frozen=True)
class SampleImage:
    """An image of a file of many.

    Attributes:
        number: of the image in its file, from 0.
        name: what to call it in messages.
        encoded: the image as a file's bytes; a JPEG or PNG if it can be decoded.
        label: its class, if the file has one.
        place: what it is in the file, such as `record 3`.
        label_key: what its class is called there, such as `image/class/label`.
        classes: the names of the file's classes, by its numbers, if it has them.
        converted: Pillow's name of the format that it was converted to PNG from, or empty.
    """

    number: int
    name: str
    encoded: bytes
    label: int | None
    place: str = ""
    label_key: str = LABEL_KEY
    classes: tuple[str, ...] = ()
    converted: str = ""


def read_shard(
    path: str, first_label: int | None = None, stamp: str = "", convert: bool = True
) -> Iterator[SampleImage]:
    """Reads a file of many images one by one; its format is told by its content.

    Args:
        path: the file, or its URL.
        first_label: what it calls class 0. Some data sets number ImageNet's classes from 1, and
            leave 0 to the background. None for 0, and for what WordNet ids beside the labels say.
        stamp: see `runtime.files.InputFile`.
        convert: whether images of other formats than JPEG and PNG become PNGs.

    Raises:
        UserError: the file cannot be read, is of no known format or layout, or a label is none of
            the 1000 classes.
    """
    where = f"sample shard {path}"
    try:
        local = local_copy(path, stamp)
        reader = reader_of(local, where)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror or error})") from None
    for number, image in enumerate(reader(local, where, first_label)):
        encoded, converted = converted_image(image.encoded) if convert else (image.encoded, "")
        yield SampleImage(
            number,
            image.name or f"{path.rsplit('/', 1)[-1]}#{number}",
            encoded,
            image.label,
            image.place,
            image.label_key,
            image.classes,
            converted,
        )


def converted_image(encoded: bytes) -> tuple[bytes, str]:
    """A JPEG or PNG as it is, another image as a PNG with the name of its format, else the file."""
    if is_jpeg_or_png(encoded):
        return encoded, ""
    try:
        return as_png(encoded)
    except ImageHeaderError:
        return encoded, ""


def plan_shards(patterns: Sequence[str], first_label: int | None = None) -> tuple[Shard, ...]:
    """Finds and reads the whole sample, and chooses the images whose attention is compared.

    Args:
        patterns: globs.
        first_label: see `read_shard`.

    Raises:
        UserError: a glob matches nothing, a file is not as `read_shard` expects it, or fewer than
            two images can be decoded.
    """
    files: list[InputFile] = []
    for pattern in patterns:
        try:
            matches = find_files(pattern)
        except OSError as error:
            raise UserError(f"--sample_shard {pattern}: cannot be listed ({error})") from None
        if not matches:
            raise UserError(
                f"--sample_shard {pattern}: no file matches; expected {EXPECTED}; of a directory "
                "of images pipelines.sample_shard makes them"
            )
        files += [match for match in matches if match not in files]
    shards = []
    missing = ATTENTION_IMAGES
    for file in files:
        count, labelled, chosen, converted = 0, 0, [], []
        for image in read_shard(file.address, first_label, file.stamp):
            count += 1
            if image.converted:
                converted.append(f"{image.name} ({image.converted})")
            labelled += image.label is not None
            if missing and can_decode(image.encoded):
                chosen.append(image.number)
                missing -= 1
        shards.append(
            Shard(
                file.address,
                count,
                tuple(chosen),
                labelled,
                stamp=file.stamp,
                first_label=first_label,
                converted=tuple(converted),
            )
        )
    if missing:
        raise UserError(
            f"--sample_shard {' '.join(patterns)}: {ATTENTION_IMAGES - missing} images can be "
            f"decoded; expected at least {ATTENTION_IMAGES}"
        )
    return tuple(shards)


def can_decode(encoded: bytes) -> bool:
    """Whether an image can be decoded, which does not depend on the size that it is resized to."""
    try:
        load_pixels(encoded, 16)
    except UndecodableImageError:
        return False
    return True
