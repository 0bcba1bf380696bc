"""The Pillow reference against timm's pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.reference.preprocessing import (
    MEAN,
    STD,
    UndecodableImageError,
    load_pixels,
    normalize,
)
from tests.support.paths import DATA

PHOTOS = DATA / "photos"
CAT = (PHOTOS / "cat.jpg").read_bytes()
TINY = (PHOTOS / "tiny.png").read_bytes()

with np.load(PHOTOS / "timm_eval_pixels.npz") as archive:
    TIMM: dict[str, npt.NDArray[np.uint8]] = dict(archive)


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return TINY[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + TINY[33:]


def jpeg_claiming(width: int, height: int) -> bytes:
    frame = CAT.index(b"\xff\xc0") + 5
    return CAT[:frame] + struct.pack(">HH", height, width) + CAT[frame + 4 :]


@pytest.mark.parametrize("key", sorted(TIMM))
def test_pixels_of_photos_equal_timm(key: str) -> None:
    name, size = key.split("@")
    pixels = load_pixels((PHOTOS / name).read_bytes(), int(size))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, TIMM[key])


@pytest.mark.parametrize(
    ("width", "height", "first"), [(9, 5, 2), (10, 5, 2), (11, 5, 3), (12, 5, 4), (5, 11, 3)]
)
def test_crop_starts_where_torchvision_starts(width: int, height: int, first: int) -> None:
    # The short side is already right, so cropping is all that happens. Halves go to even.
    ramp = np.arange(width, dtype=np.uint8) if width > height else np.arange(height, dtype=np.uint8)
    values = np.broadcast_to(ramp if width > height else ramp[:, np.newaxis], (height, width))
    pixels = load_pixels(saved(Image.fromarray(np.ascontiguousarray(values)), "PNG"), 5)
    line = pixels[0, :, 0] if width > height else pixels[:, 0, 0]
    assert line.tolist() == list(range(first, first + 5))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(np.full((4, 4, 4), 255, np.uint8)).convert(mode)
    pixels = load_pixels(saved(image, "PNG"), 4)
    np.testing.assert_array_equal(pixels, np.full((4, 4, 3), 255))


def test_normalize_is_float32_step_by_step() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    got = normalize(pixels)
    assert got.dtype == np.float32
    assert got.shape == (1, 256, 3)
    exact = (pixels / 255.0 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(got, exact, rtol=0, atol=5e-7)
    np.testing.assert_allclose(got[0, 0], [-2.117904, -2.035714, -1.804444], rtol=1e-6)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "Input is empty. One of JPEG, PNG required."),
        (b"\xff", "Unknown image file format. One of JPEG, PNG required."),
        (saved(Image.new("RGB", (9, 9)), "GIF"), "Unknown image file format."),
        (saved(Image.new("RGB", (9, 9)), "BMP"), "Unknown image file format."),
        (CAT[:3], "cannot be decoded: "),
        (CAT[:20_000], "cannot be decoded: image file is truncated"),
        (CAT[:-2], "cannot be decoded: image file is truncated"),
        (TINY[:8], "cannot be decoded: "),
        (TINY[:9000], "cannot be decoded: "),
        (TINY[:-12], "cannot be decoded: "),
        (TINY[:3000] + b"\0\0" + TINY[3002:], "cannot be decoded: broken PNG file"),
        (
            png_claiming(60_000, 60_000),
            "image claims 60000x60000 pixels, more than the 50000000 that are decoded",
        ),
        (png_claiming(5001, 10_000), "image claims 5001x10000 pixels, more than the 50000000"),
        (png_claiming(5000, 10_000), "cannot be decoded: "),
        (jpeg_claiming(60_000, 50_000), "image claims 60000x50000 pixels, more than"),
        (
            saved(Image.new("L", (1, 500_000)), "PNG"),
            "image of 1x500000 pixels is too elongated: it would be resized to 32x16000000",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_images(encoded: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImageError) as caught:
        load_pixels(encoded, 32)
    assert caught.value.reason.startswith(reason)
    assert caught.value.reason == str(caught.value)
    assert "\n" not in caught.value.reason


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        load_pixels(CAT, 0)
