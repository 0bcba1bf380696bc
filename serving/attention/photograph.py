"""A photograph as a model sees it, and the rest of it that the centre crop cuts away.

The pixels of the crop come from `signatures.preprocessing`, which every published model has in its
graph. What lies around them is for the eye alone, and is resized by Pillow.
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

Pixels = npt.NDArray[np.uint8]

MOST_AROUND = 1.0
"""How much of what was cut away is shown at either end, in sides of the crop. Beyond that is the
far end of a panorama, which would only make the picture small."""

DIMMED = 0.35
"""Brightness of what was cut away."""


class UnreadableImageError(ValueError):
    """An image that a model does not take; the message is one line and says why."""


@dataclasses.dataclass(frozen=True)
class CropGeometry:
    """The centre crop of a resized photograph, in pixels of it.

    Attributes:
        width: of the resized photograph; the shorter of the two is `size`.
        height: of the resized photograph.
        left: where the crop begins.
        top: where the crop begins.
        size: side of the crop.
    """

    width: int
    height: int
    left: int
    top: int
    size: int


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph made ready for a model.

    Attributes:
        encoded: the file, JPEG or PNG.
        pixels: (S, S, 3) uint8 RGB, exactly what the model sees before it normalises.
        shown: (height, width, 3) uint8 RGB, the crop with what lies around it dimmed.
        left: where the crop begins in `shown`.
        top: where the crop begins in `shown`.
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
    """Where the crop lies: short side to `size`, then the central square.

    As `signatures.preprocessing` has it, from torchvision's `Resize` and `CenterCrop`.
    """
    short = min(width, height)
    resized = (int(size * width / short), int(size * height / short))
    left, top = (round((side - size) / 2.0) for side in resized)
    return CropGeometry(*resized, left, top, size)


def read_photograph(encoded: bytes, size: int) -> Photograph:
    """Decodes a photograph, crops it for a model, and dims what the crop cuts away.

    Args:
        encoded: a whole JPEG or PNG file.
        size: S, side of the model's input in pixels.

    Raises:
        UnreadableImageError: it is no JPEG or PNG, is damaged, or claims too many pixels.
    """
    import tensorflow as tf

    try:
        check_image_header(encoded)
        pixels: Pixels = _preprocessing(size)(tf.constant(encoded)).numpy()
    except ImageHeaderError as error:
        raise UnreadableImageError(str(error)) from error
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableImageError(reason(error.message)) from error
    shown, left, top = _with_surroundings(encoded, pixels)
    return Photograph(encoded, pixels, shown, left, top)


@functools.cache
def _preprocessing(size: int) -> Callable[[Any], Any]:
    """The models' own preprocessing, as a graph: it is quicker, and its errors are the models'."""
    import tensorflow as tf

    from signatures.preprocessing import decode_and_crop

    graph: Callable[[Any], Any] = tf.function(
        lambda encoded: decode_and_crop(encoded, size),
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
    )
    return graph


def _with_surroundings(encoded: bytes, pixels: Pixels) -> tuple[Pixels, int, int]:
    """The crop amid what was cut away, dimmed, and where it begins there."""
    size = len(pixels)
    try:
        image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        # Pillow is stricter here and there; the crop, which is what counts, is there.
        return pixels, 0, 0
    crop = crop_geometry(image.width, image.height, size)
    margin = int(MOST_AROUND * size)
    left, top = min(crop.left, margin), min(crop.top, margin)
    width = min(crop.width, left + size + margin)
    height = min(crop.height, top + size + margin)
    # In the photograph's own pixels, so that the resized whole of a panorama is never made.
    across, down = image.width / crop.width, image.height / crop.height
    x, y = (crop.left - left) * across, (crop.top - top) * down
    box = (x, y, min(x + width * across, image.width), min(y + height * down, image.height))
    around = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    shown: Pixels = (np.asarray(around, np.float32) * DIMMED).astype(np.uint8)
    shown[top : top + size, left : left + size] = pixels
    return shown, left, top
