"""Encoded images as clients take them: read, named for messages, and checked before they are sent.

Nothing is decoded and nothing of TensorFlow loaded: `signatures.image_header` reads the header.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from signatures.image_header import ImageHeaderError, check_image_header

from .types import Images


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image to be sent.

    Attributes:
        data: a whole JPEG or PNG file, if it is what it should be.
        path: where it was read from; None if it was given as bytes.
    """

    data: bytes
    path: str | None = None


class InvalidImagesError(ValueError):
    """Images that no model takes, as their headers tell. Nothing was sent.

    Attributes:
        reasons: what was found and what is expected, one line, by the image's place among those
            of the call, from 0.
    """

    def __init__(self, reasons: Mapping[int, str], images: Sequence[EncodedImage]) -> None:
        self.reasons = dict(reasons)
        named = [
            f"{image_name(place, images[place].path)}: {self.reasons[place]}" for place in reasons
        ]
        super().__init__("; ".join(named))


def image_name(place: int, path: str | None) -> str:
    """What messages call an image: its place among those of the call, from 0, and its path."""
    return f"images[{place}]" if path is None else f"images[{place}] ({path})"


def read_images(images: Images, what: str) -> list[EncodedImage]:
    """Encoded images with their bytes; one image is a batch of one.

    Args:
        images: bytes and paths.
        what: what messages call them.

    Raises:
        ValueError: something is neither bytes nor a path.
        OSError: a file cannot be read.
    """
    if isinstance(images, bytes | str | os.PathLike):
        images = [images]
    read = []
    for image in images:
        if isinstance(image, bytes):
            read.append(EncodedImage(image))
        elif isinstance(image, str | os.PathLike):
            read.append(EncodedImage(pathlib.Path(image).read_bytes(), os.fspath(image)))
        else:
            raise ValueError(
                f"{what}: {type(image).__name__}; expected the bytes or the path of a JPEG or PNG"
            )
    return read


def images_in(value: Any, what: str) -> list[EncodedImage] | None:
    """The images of an input that is given by name; None if it is anything else.

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
    """Holds the header of every image to what models take.

    Raises:
        InvalidImagesError: some are empty, are no JPEG or PNG, have no whole header, or claim no
            pixels or too many.
    """
    reasons = {}
    for place, image in enumerate(images):
        try:
            check_image_header(image.data)
        except ImageHeaderError as error:
            reasons[place] = str(error)
    if reasons:
        raise InvalidImagesError(reasons, images)
