"""Checks the header of an encoded image: whether a model would decode it in reasonable time.

This needs neither TensorFlow nor decoding, so a client can refuse an image before it is sent. It
accepts every image that the graph of `signatures.preprocessing` accepts. Pillow's readers do not:
they refuse a PNG for its text, for an optional chunk or for a large profile, which the graph's
libpng ignores.
"""

import itertools
import re
import struct
from collections.abc import Iterator

MAX_IMAGE_PIXELS: int = 50_000_000
"""The most pixels (width times height) that a header may claim."""

MAX_SCANS: int = 100
"""The most scans of a JPEG. libjpeg decodes the whole image for each, whatever few bytes it has.

Encoders write one, and ten for a progressive JPEG. With 100 scans an image of `MAX_IMAGE_PIXELS`
takes 8 seconds of a core, with 10 scans 0.6; a file of 200 KB can have 3000.
"""

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
_END, _SCAN = 0xD9, 0xDA
# A marker with a segment, or the end. Any number of 0xFF may precede a marker; 0xFF00, TEM (0x01)
# and the restart markers (0xD0 to 0xD7) have no segment.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
# The most segments that are read. Files have some dozens; reading this many takes a tenth of a
# second.
_MOST_SEGMENTS = 100_000


class ImageHeaderError(ValueError):
    """An image that no model accepts. The message, one line, says what was found and expected."""


def check_image_header(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels that the header of a JPEG or PNG claims.

    Pixels are not read, so the image may still fail to decode.

    Args:
        encoded: content of the file.

    Raises:
        ImageHeaderError: the file is empty, is not a JPEG or PNG, has a truncated header, claims no
            pixels or more than `MAX_IMAGE_PIXELS`, or is what `check_scans` refuses.
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
    check_scans(encoded)
    return size


def check_scans(data: bytes) -> None:
    """Checks the number of scans of a JPEG, or of each JPEG within other data.

    Other data is, for example, a serialised `tf.Example` with images.

    Raises:
        ImageHeaderError: a JPEG has more than `MAX_SCANS` scans.
    """
    # No JPEG has more scans than this finds. Their headers need not be read then.
    if data.count(bytes((0xFF, _SCAN))) <= MAX_SCANS:
        return
    left = _MOST_SEGMENTS
    for start in _jpegs(data):
        scans = 0
        for marker, _ in itertools.islice(_segments(data, start + 2), left):
            left -= 1
            scans += marker == _SCAN
            if scans > MAX_SCANS:
                raise ImageHeaderError(
                    f"a JPEG with more than {MAX_SCANS} scans; expected {MAX_SCANS} at most, "
                    "since each takes as long as an image (save it as a baseline JPEG)"
                )
        if not left:
            raise ImageHeaderError(
                f"a JPEG with more than {_MOST_SEGMENTS} segments; expected some dozens"
            )


def _png_size(encoded: bytes) -> tuple[int, int] | None:
    # Magic (8 bytes), chunk length (4), "IHDR", width (4), height (4).
    if encoded[12:16] != b"IHDR" or len(encoded) < 24:
        return None
    width, height = struct.unpack_from(">II", encoded, 16)
    return width, height


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """The size in the first frame header."""
    for marker, place in _segments(encoded, 2):
        if marker == _SCAN:
            return None
        if marker in _FRAMES:
            # Length (2 bytes), bits of a sample (1), height (2), width (2).
            if len(encoded) < place + 7:
                return None
            height, width = struct.unpack_from(">HH", encoded, place + 3)
            return width, height
    return None


def _jpegs(data: bytes) -> Iterator[int]:
    """Where the JPEGs in some bytes begin."""
    if data.startswith(PNG_MAGIC):
        return
    place = data.find(JPEG_MAGIC)
    while place >= 0:
        yield place
        # What is within a JPEG, such as a thumbnail, is not decoded.
        place = data.find(JPEG_MAGIC, place + 1) if place else -1


def _segments(encoded: bytes, place: int) -> Iterator[tuple[int, int]]:
    """Each marker up to the end of a JPEG, and where its segment begins.

    They are found like libjpeg's `next_marker` and `read_markers` do: what is between segments,
    such as the data of a scan, is passed over.
    """
    while (found := _MARKER.search(encoded, place)) is not None:
        marker, place = encoded[found.end() - 1], found.end()
        if marker == _END:
            return
        yield marker, place
        if len(encoded) < place + 2:
            return
        (length,) = struct.unpack_from(">H", encoded, place)
        # The length includes its own two bytes; libjpeg accepts less too.
        place += max(length, 2)


def _other(encoded: bytes) -> str:
    if not encoded:
        return "an empty file"
    for name, place, magic in _OTHERS:
        if encoded.startswith(magic, place):
            return name
    return f"a file that begins with {encoded[:8]!r}"
