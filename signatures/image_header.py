"""What the first bytes of an encoded image say: whether a model would begin to decode it.

Without TensorFlow and without decoding, so that a client can refuse an image before it is sent.
What is refused here, the graph of `signatures.preprocessing` refuses as well; what the graph takes
is let through. Pillow's readers would not do: they refuse a PNG for its text, for a chunk that no
decoder needs or for a profile that is too large, all of which the graph's libpng passes over.
"""

import struct

MAX_IMAGE_PIXELS: int = 50_000_000
"""Most pixels (width times height) that an image header may claim and still be decoded."""

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# Formats that are taken for photographs elsewhere: the bytes, and where they are.
_OTHERS = (
    ("a GIF", 0, b"GIF8"),
    ("a BMP", 0, b"BM"),
    ("a WebP", 8, b"WEBP"),
    ("a TIFF", 0, b"II*\0"),
    ("a TIFF", 0, b"MM\0*"),
    ("a HEIF or AVIF", 4, b"ftyp"),
    ("a JPEG XL", 0, b"\xff\x0a"),
)

# Frame headers; the three left out are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers of two bytes without a segment: TEM and the restart markers.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_END, _SCAN = 0xD9, 0xDA


class ImageHeaderError(ValueError):
    """An image that no model takes; the message is one line: what was found, what is expected."""


def check_image_header(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels that a JPEG or PNG claims to have.

    That it can be decoded is not said: what comes after the header is not looked at.

    Args:
        encoded: a whole file.

    Raises:
        ImageHeaderError: it is empty, is no JPEG or PNG, has no whole header, or claims no pixels
            or more than `MAX_IMAGE_PIXELS`.
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
    """From the first frame header, found as libjpeg's `next_marker` and `read_markers` find it."""
    place = 2
    while (place := encoded.find(b"\xff", place)) >= 0:
        # Any number of 0xFF may stand before a marker; 0xFF00 is none, nor is what lies between.
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
        # Shorter than itself: libjpeg passes over that too.
        place += max(length, 2)
    return None


def _other(encoded: bytes) -> str:
    if not encoded:
        return "an empty file"
    for name, place, magic in _OTHERS:
        if encoded.startswith(magic, place):
            return name
    return f"a file that begins with {encoded[:8]!r}"
