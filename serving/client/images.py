"""Encoded images of a call: reading them, naming them in messages, and checking their headers.

`signatures.image_header` reads the headers, so nothing is decoded and TensorFlow is not needed.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from signatures.files import read_file
from signatures.image_header import ImageHeaderError, check_image_header

from .types import Images


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image to send.

    Attributes:
        data: content of the file.
        path: path of the file; None for an image passed as bytes.
    """

    data: bytes
    path: str | None = None


class InvalidImagesError(ValueError):
    """Images whose headers no model accepts. Nothing was sent.

    Attributes:
        reasons: what was found and what was expected, in one line, by the image's place among
            those of the call, from 0.
    """

    def __init__(self, reasons: Mapping[int, str], images: Sequence[EncodedImage]) -> None:
        self.reasons = dict(reasons)
        named = [
            f"{image_name(place, images[place].path)}: {self.reasons[place]}" for place in reasons
        ]
        super().__init__("; ".join(named))


def image_name(place: int, path: str | None) -> str:
    """The name of an image in messages: its place among those of the call, from 0, and its path."""
    return f"images[{place}]" if path is None else f"images[{place}] ({path})"


def read_images(images: Images, what: str) -> list[EncodedImage]:
    """Reads encoded images; a single image is a batch of one.

    Args:
        images: bytes and paths.
        what: name of the argument in messages.

    Raises:
        ValueError: an entry is neither bytes nor a path.
        OSError: a file cannot be read.
    """
    if isinstance(images, bytes | str | os.PathLike):
        images = [images]
    read = []
    for image in images:
        if isinstance(image, bytes):
            read.append(EncodedImage(image))
        elif isinstance(image, str | os.PathLike):
            read.append(EncodedImage(read_file(image), os.fspath(image)))
        else:
            raise ValueError(
                f"{what}: {type(image).__name__}; expected the bytes or the path of a JPEG or PNG"
            )
    return read


def images_in(value: Any, what: str) -> list[EncodedImage] | None:
    """Reads the value of a named input as encoded images; None if it is anything else.

    Raises:
        OSError: a file cannot be read.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "OSU":
        value = list(value)
    entries = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(entry, bytes | str | os.PathLike) for entry in entries):
        return None
    return read_images(value, what)


def check_images(images: Sequence[EncodedImage]) -> None:
    """Checks the header of every image.

    Raises:
        InvalidImagesError: an image is empty, is not a JPEG or PNG, has a truncated header, or
            claims no pixels or too many.
    """
    reasons = {}
    for place, image in enumerate(images):
        try:
            check_image_header(image.data)
        except ImageHeaderError as error:
            reasons[place] = str(error)
    if reasons:
        raise InvalidImagesError(reasons, images)
