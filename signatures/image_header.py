"""Checks the header of an encoded image: whether a model would begin to decode it.

This needs neither TensorFlow nor decoding, so a client can refuse an image before it is sent. It
accepts every image that the graph of `signatures.preprocessing` accepts. Pillow's readers do not:
they refuse a PNG for its text, for an optional chunk or for a large profile, which the graph's
libpng ignores.
"""

import struct

MAX_IMAGE_PIXELS: int = 50_000_000
"""The most pixels (width times height) that a header may claim."""

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# Other image formats, for messages: the offset of their magic bytes, and the bytes.
_OTHERS = (
    ("a GIF", 0, b"GIF8"),
    ("a BMP", 0, b"BM"),
    ("a WebP", 8, b"WEBP"),
    ("a TIFF", 0, b"II*\0"),
    ("a TIFF", 0, b"MM\0*"),
    ("a HEIF or AVIF", 4, b"ftyp"),
    ("a JPEG XL", 0, b"\xff\x0a"),
)

# Markers of frame headers; the three excluded ones are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a segment: TEM and the restart markers.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_END, _SCAN = 0xD9, 0xDA


class ImageHeaderError(ValueError):
    """An image that no model accepts. The message, one line, says what was found and expected."""


def check_image_header(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels that the header of a JPEG or PNG claims.

    Data after the header is not read, so the image may still fail to decode.

    Args:
        encoded: content of the file.

    Raises:
        ImageHeaderError: the file is empty, is not a JPEG or PNG, has a truncated header, or claims
            no pixels or more than `MAX_IMAGE_PIXELS`.
    """
    if encoded.startswith(JPEG_MAGIC):
        kind, size = "JPEG", _jpeg_size(encoded)
    elif encoded.startswith(PNG_MAGIC):
        kind, size = "PNG", _png_size(encoded)
    else:
        raise ImageHeaderError(f"{_other(encoded)}; expected a JPEG or PNG")
    if size is None:
        raise ImageHeaderError(
            f"a {kind} of {len(encoded)} bytes without a whole header; expected width and height"
        )
    width, height = size
    if not 0 < width * height <= MAX_IMAGE_PIXELS:
        raise ImageHeaderError(
            f"a {kind} that claims {width}x{height} pixels; expected 1 to {MAX_IMAGE_PIXELS}"
        )
    return size


def _png_size(encoded: bytes) -> tuple[int, int] | None:
    # Magic (8 bytes), chunk length (4), "IHDR", width (4), height (4).
    if encoded[12:16] != b"IHDR" or len(encoded) < 24:
        return None
    width, height = struct.unpack_from(">II", encoded, 16)
    return width, height


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """The size in the first frame header, found like libjpeg's `next_marker` and `read_markers`."""
    place = 2
    while (place := encoded.find(b"\xff", place)) >= 0:
        # Any number of 0xFF may precede a marker; 0xFF00 and what is between segments are none.
        while encoded[place : place + 1] == b"\xff":
            place += 1
        marker = encoded[place] if place < len(encoded) else _END
        place += 1
        if marker in (_END, _SCAN):
            return None
        if marker == 0 or marker in _ALONE:
            continue
        if marker in _FRAMES:
            # Length (2 bytes), bits of a sample (1), height (2), width (2).
            if len(encoded) < place + 7:
                return None
            height, width = struct.unpack_from(">HH", encoded, place + 3)
            return width, height
        if len(encoded) < place + 2:
            return None
        (length,) = struct.unpack_from(">H", encoded, place)
        # The length includes its own two bytes; libjpeg accepts less too.
        place += max(length, 2)
    return None


def _other(encoded: bytes) -> str:
    if not encoded:
        return "an empty file"
    for name, place, magic in _OTHERS:
        if encoded.startswith(magic, place):
            return name
    return f"a file that begins with {encoded[:8]!r}"
