"""Photographs as what the signatures with `images` take, for users of NumPy."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from signatures.files import read_file
from signatures.image_header import ImageHeaderError
from signatures.other_formats import as_png, is_jpeg_or_png

from .reference.preprocessing import (
    UndecodableImageError,
    central_square,
    load_pixels,
    normalize,
)
from .variants import CaiTConfig, find_variant

Photograph: TypeAlias = Union[str, "os.PathLike[str]", bytes, Image.Image, npt.NDArray[np.uint8]]
"""A path, the content of a file, Pillow's image, or pixels, uint8 (height, width, 3) in RGB."""


def preprocess(
    images: Photograph | Sequence[Photograph],
    variant: str | CaiTConfig,
    *,
    image_size: int | None = None,
) -> npt.NDArray[np.float32]:
    """Decodes, resizes, cuts and normalises photographs as timm does it for CaiT.

    The signatures `bytes_*` of a model do the same in the graph.

    Args:
        images: one photograph or several, of any sizes and in JPEG, PNG, or a format of
            `signatures.other_formats`.
        variant: a variant's name, also at another image size, such as `cait_xxs24_96`, or an
            architecture of one's own. It says how large the result is.
        image_size: side of the result in pixels, for a model of another size.

    Returns:
        float32 (B, S, S, 3), RGB, normalised: what `images` of every signature and the Keras models
        take.

    Raises:
        UserError: there is no such variant.
        UndecodableImageError: one cannot be decoded. The message names it by its path, or by its
            place in `images`.
        OSError: a file cannot be read.
        TypeError: one is neither a path, bytes, an image of Pillow's nor pixels.
    """
    config = variant if isinstance(variant, CaiTConfig) else find_variant(variant).config
    size = config.image_size if image_size is None else image_size
    alone = isinstance(images, np.ndarray) and images.ndim == 3
    if alone or isinstance(images, str | os.PathLike | bytes | Image.Image):
        several: list[Any] = [images]
    else:
        several = list(images)
    pixels = [_pixels(image, f"image {i}", size) for i, image in enumerate(several)]
    return normalize(np.stack(pixels)) if pixels else np.zeros((0, size, size, 3), np.float32)


def _pixels(image: Photograph, name: str, size: int) -> npt.NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError(
                f"{name}: pixels of type {image.dtype} and shape {image.shape}; expected uint8 "
                "(height, width, 3) in RGB"
            )
        return central_square(Image.fromarray(image), size)
    if isinstance(image, Image.Image):
        return central_square(image.convert("RGB"), size)
    if isinstance(image, bytes):
        encoded = image
    elif isinstance(image, str | os.PathLike):
        name, encoded = str(image), read_file(image)
    else:
        raise TypeError(
            f"{name}: a {type(image).__name__}; expected a path, bytes, an image of "
            "Pillow's or pixels"
        )
    try:
        if not is_jpeg_or_png(encoded):
            encoded, _ = as_png(encoded)
        return load_pixels(encoded, size)
    except (UndecodableImageError, ImageHeaderError) as error:
        raise UndecodableImageError(f"{name}: {error}") from None
