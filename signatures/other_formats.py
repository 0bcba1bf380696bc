"""Images in formats that no model decodes, such as WebP: Pillow reads them, and they become PNGs.

A PNG is lossless, so a model sees the pixels that Pillow decodes. Of an animation it is the first
frame. As for a JPEG or a PNG, orientation in metadata is ignored and alpha is dropped.
"""

import io
import warnings

from .image_header import (
    JPEG_MAGIC,
    MAX_IMAGE_PIXELS,
    PNG_MAGIC,
    ImageHeaderError,
    check_image_header,
)


class ConversionError(ImageHeaderError):
    """An image of a known format that does not become a PNG. The message is one line."""


FORMATS = ("AVIF", "BMP", "GIF", "JPEG2000", "PPM", "TIFF", "WEBP")
"""The formats, by Pillow's names."""

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jp2", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""How names of their files end, in any case."""

# More than 8 bits a channel, which Pillow would cut to white.
_DEEP = ("I", "F")


def is_jpeg_or_png(encoded: bytes) -> bool:
    """Whether a file begins as a JPEG or a PNG does."""
    return encoded.startswith((JPEG_MAGIC, PNG_MAGIC))


def as_png(encoded: bytes) -> tuple[bytes, str]:
    """An image of another format as a PNG.

    Args:
        encoded: content of a file that is neither a JPEG nor a PNG.

    Returns:
        A PNG of 8-bit RGB, and Pillow's name of the file's format.

    Raises:
        ImageHeaderError: the file is of none of `FORMATS`.
        ConversionError: it has more than `MAX_IMAGE_PIXELS` pixels or more than 8 bits a channel,
            or is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    with warnings.catch_warnings():
        # About many pixels; the limit is checked below.
        warnings.simplefilter("ignore")
        try:
            formats = [name for name in FORMATS if name in Image.OPEN]
            image = Image.open(io.BytesIO(encoded), formats=formats)
        except UnidentifiedImageError:
            check_image_header(encoded)
            raise
        except Exception as error:  # Its readers raise errors of many kinds.
            raise ConversionError(f"an image that cannot be read ({_line(error)})") from None
        kind = str(image.format)
        if not 0 < image.width * image.height <= MAX_IMAGE_PIXELS:
            raise ConversionError(
                f"a {kind} that claims {image.width}x{image.height} pixels; expected 1 to "
                f"{MAX_IMAGE_PIXELS}"
            )
        if image.mode.split(";")[0] in _DEEP:
            raise ConversionError(
                f"a {kind} of Pillow's mode {image.mode}; expected 8 bits a channel"
            )
        try:
            pixels = image.convert("RGB")
        except Exception as error:  # As above.
            raise ConversionError(f"a {kind} that cannot be decoded ({_line(error)})") from None
    # Profiles and the like would become chunks of the PNG.
    pixels.info.clear()
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=1)
    return file.getvalue(), kind


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
