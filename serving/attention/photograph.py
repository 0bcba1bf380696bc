"""A photograph as a model sees it, and the surroundings that the centre crop cuts away.

`signatures.preprocessing`, which is in the graph of every published model, computes the pixels of
the crop. Pillow resizes the surroundings, which are only shown.
"""

import dataclasses
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from signatures.graph_errors import reason
from signatures.image_header import ImageHeaderError, check_image_header
from signatures.other_formats import as_png, is_jpeg_or_png

Pixels = npt.NDArray[np.uint8]

MOST_AROUND = 1.0
"""How much of the surroundings is shown at either end, in sides of the crop. A whole panorama would
make the picture small."""

DIMMED = 0.35
"""Brightness of the surroundings."""


class UnreadableImageError(ValueError):
    """An image that no model accepts; the message is one line."""


@dataclasses.dataclass(frozen=True)
class CropGeometry:
    """The centre crop of a resized photograph, in its pixels.

    Attributes:
        width: width of the resized photograph; the shorter side is `size`.
        height: height of the resized photograph.
        left: left edge of the crop.
        top: top edge of the crop.
        size: side of the crop.
    """

    width: int
    height: int
    left: int
    top: int
    size: int


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph prepared for a model.

    Attributes:
        encoded: content of the JPEG or PNG file.
        pixels: (S, S, 3) uint8 RGB, the model's input before normalisation.
        shown: (height, width, 3) uint8 RGB, the crop amid its dimmed surroundings.
        left: left edge of the crop in `shown`.
        top: top edge of the crop in `shown`.
    """

    encoded: bytes
    pixels: Pixels
    shown: Pixels
    left: int
    top: int

    @property
    def size(self) -> int:
        """Side of the crop in pixels."""
        return len(self.pixels)

    def normalised(self) -> npt.NDArray[np.float32]:
        """(1, S, S, 3) float32, the input `images` of a signature."""
        from signatures.preprocessing import normalize

        images: npt.NDArray[np.float32] = normalize(self.pixels[np.newaxis]).numpy()
        return images


def crop_geometry(width: int, height: int, size: int) -> CropGeometry:
    """The crop: the short side is resized to `size`, and the central square is cut.

    The same as in `signatures.preprocessing`: torchvision's `Resize` and `CenterCrop`.
    """
    short = min(width, height)
    resized = (int(size * width / short), int(size * height / short))
    left, top = (round((side - size) / 2.0) for side in resized)
    return CropGeometry(*resized, left, top, size)


def read_photograph(encoded: bytes, size: int) -> Photograph:
    """Decodes a photograph, crops it for a model, and dims its surroundings.

    Args:
        encoded: a whole JPEG or PNG file, or one of `signatures.other_formats`, of which a PNG is
            made.
        size: S, side of the model's input in pixels.

    Raises:
        UnreadableImageError: it is of none of these formats, is damaged, or claims too many pixels.
    """
    import tensorflow as tf

    try:
        if not is_jpeg_or_png(encoded):
            encoded, _ = as_png(encoded)
        check_image_header(encoded)
        pixels: Pixels = _preprocessing(size)(tf.constant(encoded)).numpy()
    except ImageHeaderError as error:
        raise UnreadableImageError(str(error)) from error
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableImageError(reason(error.message)) from error
    shown, left, top = _surround(encoded, pixels)
    return Photograph(encoded, pixels, shown, left, top)


@functools.cache
def _preprocessing(size: int) -> Callable[[Any], Any]:
    """The preprocessing of the models as a graph: it is fast and has the models' errors."""
    import tensorflow as tf

    from signatures.preprocessing import decode_and_crop

    graph: Callable[[Any], Any] = tf.function(
        lambda encoded: decode_and_crop(encoded, size),
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
    )
    return graph


def _surround(encoded: bytes, pixels: Pixels) -> tuple[Pixels, int, int]:
    """The crop amid its dimmed surroundings, and its left and top edge there."""
    size = len(pixels)
    try:
        image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        # Pillow refuses some images that the model accepts; these are shown without surroundings.
        return pixels, 0, 0
    crop = crop_geometry(image.width, image.height, size)
    margin = int(MOST_AROUND * size)
    left, top = min(crop.left, margin), min(crop.top, margin)
    width = min(crop.width, left + size + margin)
    height = min(crop.height, top + size + margin)
    # A box in the photograph's own pixels, so that a panorama is never resized as a whole.
    across, down = image.width / crop.width, image.height / crop.height
    x, y = (crop.left - left) * across, (crop.top - top) * down
    box = (x, y, min(x + width * across, image.width), min(y + height * down, image.height))
    around = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    shown: Pixels = (np.asarray(around, np.float32) * DIMMED).astype(np.uint8)
    shown[top : top + size, left : left + size] = pixels
    return shown, left, top
