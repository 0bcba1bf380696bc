"""Image preprocessing with Pillow and NumPy, as the reference for the exported graph.

It follows the evaluation transform that timm 1.0.31 builds for CaiT (bicubic, crop_pct 1.0, centre
crop). It shares no code with the TensorFlow graph, and Pillow resizes.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
"""Mean of each RGB channel over ImageNet, for values scaled to [0, 1]."""

STD: tuple[float, float, float] = (0.229, 0.224, 0.225)
"""Standard deviation of each RGB channel over ImageNet, for values scaled to [0, 1]."""

MAX_PIXELS: int = 50_000_000
"""The most pixels (width times height) in an image header with which an image is decoded."""

MAX_RESIZED_PIXELS: int = 400_000_000
"""The most pixels of the resized image. Pillow keeps all of it, 4 bytes a pixel, until the crop."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# What Pillow's JPEG and PNG readers raise on damaged files.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


class UndecodableImageError(ValueError):
    """An image that cannot be decoded.

    Attributes:
        reason: why, in one line.
    """

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)


def load_pixels(encoded: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Decode one image, resize its short side to ``size`` and cut the central square.

    The size of the resized image is that of torchvision's ``Resize``: the long side becomes
    ``int(size * long / short)``. The square begins where torchvision's ``CenterCrop`` begins:
    ``round((side - size) / 2.0)``. EXIF orientation is ignored and alpha is dropped.

    Args:
        encoded: a whole JPEG or PNG file.
        size: side of the square to cut, in pixels; at least 1.

    Returns:
        uint8 array of shape (size, size, 3), RGB, 0 to 255.

    Raises:
        ValueError: ``size`` is less than 1.
        UndecodableImageError: ``encoded`` is empty, is neither JPEG nor PNG, claims more than
            `MAX_PIXELS` pixels, is so elongated that the resized image would have more than
            `MAX_RESIZED_PIXELS`, or is truncated or damaged.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    return central_square(_decode_rgb(encoded), size)


def central_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize the short side of a decoded image and cut the central square, as `load_pixels`.

    Args:
        image: an image in the mode RGB.
        size: side of the square, in pixels; at least 1.

    Returns:
        uint8 array of shape (size, size, 3), RGB, 0 to 255.

    Raises:
        UndecodableImageError: as `load_pixels`.
    """
    width, height = image.size
    if width <= height:
        resized = (size, int(size * height / width))
    else:
        resized = (int(size * width / height), size)
    if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
        raise UndecodableImageError(
            f"image of {width}x{height} pixels is too elongated: it would be resized to "
            f"{resized[0]}x{resized[1]}"
        )
    image = image.resize(resized, Image.Resampling.BICUBIC)
    left = round((resized[0] - size) / 2.0)
    top = round((resized[1] - size) / 2.0)
    return np.array(image.crop((left, top, left + size, top + size)), dtype=np.uint8)


def normalize(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Scale pixels to [0, 1], then subtract the ImageNet mean and divide by the deviation.

    Each step is rounded to float32, as torchvision's ``ToTensor`` and ``Normalize`` do.

    Args:
        pixels: uint8 array whose last dimension is RGB.

    Returns:
        float32 array of the same shape, about -2.12 to 2.64.
    """
    mean: npt.NDArray[np.float32] = np.array(MEAN, np.float32)
    std: npt.NDArray[np.float32] = np.array(STD, np.float32)
    scaled: npt.NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    return (scaled - mean) / std


def _decode_rgb(encoded: bytes) -> Image.Image:
    if not encoded:
        raise UndecodableImageError("Input is empty. One of JPEG, PNG required.")
    # Not Image.open, which warns about large images or refuses them by Pillow's own limits,
    # without their size.
    reader: type[ImageFile.ImageFile]
    if encoded.startswith(b"\xff\xd8\xff"):
        reader = JpegImagePlugin.JpegImageFile
    elif encoded.startswith(_PNG_MAGIC):
        reader = PngImagePlugin.PngImageFile
    else:
        raise UndecodableImageError("Unknown image file format. One of JPEG, PNG required.")
    try:
        image = reader(io.BytesIO(encoded))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UndecodableImageError(
                f"image claims {width}x{height} pixels, more than the {MAX_PIXELS} that are decoded"
            )
        # Loading a PNG ignores checksums and a missing end; verifying does not. A verified image
        # cannot be loaded, hence the second reader.
        reader(io.BytesIO(encoded)).verify()
        return image.convert("RGB")
    except UndecodableImageError:
        raise
    except _PILLOW_ERRORS as error:
        raise UndecodableImageError(f"cannot be decoded: {error}") from error
