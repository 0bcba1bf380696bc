"""What a client can tell of an image before it sends it, against the graph that would decode it."""

import functools
import io
import struct
import subprocess
import sys
import time
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from signatures.image_header import (
    MAX_IMAGE_PIXELS,
    MAX_SCANS,
    ImageHeaderError,
    check_image_header,
    check_scans,
)
from signatures.preprocessing import decode_batch
from tests.support.paths import REPOSITORY
from tests.support.requests import scan_bomb

PHOTOS = REPOSITORY / "tests" / "data" / "photos"
CAT = (PHOTOS / "cat.jpg").read_bytes()
PNG = b"\x89PNG\r\n\x1a\n"
FRAME = CAT.index(b"\xff\xc0")


@functools.cache
def graph() -> Any:
    return tf.function(
        lambda image_bytes: decode_batch(image_bytes, 8),
        input_signature=[tf.TensorSpec((None,), tf.string)],
        autograph=False,
    )


def decodes(encoded: bytes) -> bool:
    try:
        graph()(tf.constant([encoded]))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    found = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", found)


def png(*before: bytes, width: int = 20, height: int = 20) -> bytes:
    """Black, with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(61 * 20)))
    return PNG + header + b"".join(before) + pixels + chunk(b"IEND", b"")


def saved(mode: str, kind: str, **options: Any) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (40, 51, 4), np.uint8)
    image = (
        Image.fromarray(np.arange(2040, dtype=np.uint16).reshape(40, 51))
        if mode == "I;16"
        else Image.fromarray(noise).convert(mode)
    )
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """The cat, with another size in its frame header."""
    return CAT[: FRAME + 5] + struct.pack(">HH", height, width) + CAT[FRAME + 9 :]


def marked(*inserted: bytes) -> bytes:
    """The cat, with something behind its first marker."""
    return CAT[:2] + b"".join(inserted) + CAT[2:]


def interlaced() -> bytes:
    """8x8 pixels of Adam7, black: the widths and heights of its seven passes."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    rows = bytes(sum(height * (1 + 3 * width) for width, height in passes))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1))
    return PNG + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


TAKEN: dict[str, bytes] = {
    **{
        path.name: path.read_bytes() for path in PHOTOS.iterdir() if path.suffix in (".jpg", ".png")
    },
    **{f"PNG {mode}": saved(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    **{f"JPEG {mode}": saved(mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
    "progressive gray": saved("L", "JPEG", progressive=True),
    "restart markers": saved("RGB", "JPEG", restart_marker_rows=1),
    "with a thumbnail": marked(b"\xff\xe1\x08\x02Exif\0\0" + CAT[: 0x800 - 6]),
    "interlaced": interlaced(),
    "more after a JPEG": CAT + b"more",
    "more after a PNG": png() + b"more",
    # What Pillow refuses.
    "text of 2 MB": png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))),
    "profile of 5 MB": png(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000)))),
    "wrong checksum of text": png(chunk(b"tEXt", b"a\0b", checksum=1)),
    "short gamma": png(chunk(b"gAMA", b"\0")),
    "short resolution": png(chunk(b"pHYs", b"\0")),
    "marker without a segment": marked(b"\xff\x01"),
    # What libjpeg only warns about.
    "stray bytes": CAT[:20] + b"zzzz" + CAT[20:],
    "many 0xff": marked(b"\xff" * 5),
    "no markers": CAT[:20] + b"\xff\0\xff\0" + CAT[20:],
    "segment shorter than itself": marked(b"\xff\xe5\0\1"),
    "empty segment": marked(b"\xff\xe5\0\2"),
    "longest segment": marked(b"\xff\xfe\xff\xff", bytes(65533)),
    # As many scans as are taken, and what looks like more and is none.
    "progressive": saved("RGB", "JPEG", progressive=True),
    "most scans": scan_bomb(MAX_SCANS),
    "scans of a thumbnail": marked(b"\xff\xe1\x08\x02" + b"\xff\xda" * 1024),
    "scans in many segments": marked(*[b"\xff\xe1\x00\x06\xff\xda\xff\xda"] * 1000),
    "scans after a JPEG": CAT + scan_bomb(3000),
    "scans in a PNG": png(chunk(b"tEXt", b"a\0" + scan_bomb(3000))),
    "broken Exif": marked(b"\xff\xe1\0\x0fExif\0\0MM\0*\xff\xff\xff"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_graph_takes_is_let_through(name: str) -> None:
    encoded = TAKEN[name]
    assert decodes(encoded)
    width, height = check_image_header(encoded)
    assert 0 < width * height <= MAX_IMAGE_PIXELS


def test_the_size_is_that_of_the_image() -> None:
    assert check_image_header(CAT) == (451, 300)
    for path in PHOTOS.iterdir():
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                assert check_image_header(path.read_bytes()) == image.size
    assert check_image_header(png()) == (20, 20)


def test_at_the_limit_the_rest_is_the_models_to_refuse() -> None:
    for encoded in (png(width=5000, height=10_000), claiming(5000, 10_000)):
        assert check_image_header(encoded) == (5000, 10_000)


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file; expected a JPEG or PNG"),
    "text": (b"certainly no image", "a file that begins with b'certainl'; expected a JPEG or PNG"),
    "GIF": (saved("RGB", "GIF"), "a GIF; expected a JPEG or PNG"),
    "BMP": (saved("RGB", "BMP"), "a BMP; expected a JPEG or PNG"),
    "WebP": (saved("RGB", "WEBP"), "a WebP; expected a JPEG or PNG"),
    "TIFF": (saved("RGB", "TIFF"), "a TIFF; expected a JPEG or PNG"),
    "AVIF": (b"\0\0\0\x20ftypavif", "a HEIF or AVIF; expected a JPEG or PNG"),
    "start of a JPEG": (CAT[:3], "a JPEG of 3 bytes without a whole header"),
    "JPEG cut in a length": (CAT[:5], "a JPEG of 5 bytes without a whole header"),
    "JPEG cut before its size": (CAT[: FRAME + 8], "without a whole header; expected width and"),
    "JPEG that ends first": (CAT[:2] + b"\xff\xd9" + CAT[2:], "without a whole header"),
    "JPEG with its scan first": (marked(CAT[CAT.index(b"\xff\xda") :]), "without a whole header"),
    "JPEG whose segment is too long": (CAT[:2] + b"\xff\xe0\xff\xff" + CAT[:99], "without a whole"),
    "JPEG of no markers": (b"\xff\xd8\xff\xff\xff", "without a whole header"),
    "start of a PNG": (png()[:8], "a PNG of 8 bytes without a whole header"),
    "PNG cut before its size": (png()[:23], "a PNG of 23 bytes without a whole header"),
    "PNG of another first chunk": (PNG + chunk(b"tEXt", b"a\0b") + png()[8:], "without a whole"),
    "JPEG without width": (claiming(0, 9), "a JPEG that claims 0x9 pixels; expected 1 to 50000000"),
    "JPEG without height": (claiming(9, 0), "a JPEG that claims 9x0 pixels"),
    "PNG without width": (png(width=0), "a PNG that claims 0x20 pixels"),
    "large JPEG": (claiming(60_000, 50_000), "a JPEG that claims 60000x50000 pixels; expected 1"),
    "large PNG": (png(width=5001, height=10_000), "a PNG that claims 5001x10000 pixels"),
    "largest PNG": (png(width=2**32 - 1, height=2**32 - 1), "claims 4294967295x4294967295 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_the_graph_refuses_it_too(name: str) -> None:
    encoded, message = REFUSED[name]
    with pytest.raises(ImageHeaderError) as caught:
        check_image_header(encoded)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not decodes(encoded)


@pytest.mark.parametrize("change", ["cut", "other bytes"])
def test_of_damaged_files_only_those_are_refused_that_the_graph_refuses(change: str) -> None:
    random = np.random.default_rng(17)
    refused = 0
    for source in (CAT, saved("RGB", "JPEG", progressive=True), saved("P", "PNG"), png()):
        for _ in range(60):
            encoded = bytearray(source)
            # Where headers are, and where they are not.
            place = int(random.integers(0, random.choice([30, 700, len(source)])))
            if change == "cut":
                del encoded[place:]
            else:
                encoded[place : place + 1] = random.bytes(int(random.integers(0, 4)))
            try:
                check_image_header(bytes(encoded))
            except ImageHeaderError:
                refused += 1
                assert not decodes(bytes(encoded)), bytes(encoded[:700])
    assert refused


@pytest.mark.parametrize("scans", [MAX_SCANS + 1, 3000])
@pytest.mark.parametrize("before", [b"", b"\xff\xff", b"zzzz\xff\0", b"\xff\xd0\xff\x01"])
def test_more_scans_than_are_taken(scans: int, before: bytes) -> None:
    encoded = scan_bomb(scans)
    frame = encoded.index(b"\xff\xc2")
    encoded = encoded[:frame] + before + encoded[frame:]
    assert decodes(encoded) or before
    message = (
        "^a JPEG with more than 100 scans; expected 100 at most, since each takes as long as an"
    )
    with pytest.raises(ImageHeaderError, match=message):
        check_image_header(encoded)


def test_scans_of_images_in_other_data() -> None:
    bomb, photo = scan_bomb(3000), (PHOTOS / "coffee_progressive.jpg").read_bytes()
    for data in (b"\x0a\x05" + bomb, photo[:2] + b"\0" + photo + bomb, photo[1:] + bomb + png()):
        with pytest.raises(ImageHeaderError, match="more than 100 scans"):
            check_scans(data)
    # Together these have more.
    check_scans(b"\x0a" + photo * 50)
    check_scans(b"\x0a" + scan_bomb(MAX_SCANS) * 3)
    check_scans(b"\xff\xda" * 1000)


def test_reading_the_headers_ends_soon() -> None:
    """However a file is made, so that it keeps no server from its calls."""
    scans = b"\xff\xda\0\2" * (MAX_SCANS + 1)
    for data in (
        b"\xff\xd8\xff\xe0\0\2" + b"\xff\xe0\0\2" * 10_000_000 + scans,
        b"x" + b"\xff\xd8\xff" * 10_000_000 + scans,
        b"x" + b"\xff\xd8\xff\xe0\0\2" * 5_000_000 + scans,
    ):
        start = time.process_time()
        with pytest.raises(ImageHeaderError, match="more than 100000 segments"):
            check_scans(data)
        assert time.process_time() - start < 5


def test_it_needs_no_tensorflow() -> None:
    script = "import sys, signatures.image_header; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
