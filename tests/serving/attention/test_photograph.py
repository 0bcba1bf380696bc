"""A photograph as the model sees it, and the rest of it."""

import io
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.attention.photograph import (
    DIMMED,
    UnreadableImageError,
    crop_geometry,
    read_photograph,
)

WITHIN: Any = {"rtol": 0, "atol": 1e-5}


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, 64), (65, 40), (40, 65), (300, 31), (33, 97), (7, 5), (1, 200), (35, 32)],
)
def test_the_crop_lies_where_the_preprocessing_cuts_it(width: int, height: int) -> None:
    size = 32
    encoded = png(width, height)
    photograph = read_photograph(encoded, size)
    geometry = crop_geometry(width, height, size)
    whole = Image.open(io.BytesIO(encoded)).resize(
        (geometry.width, geometry.height), Image.Resampling.BICUBIC
    )
    box = (geometry.left, geometry.top, geometry.left + size, geometry.top + size)
    np.testing.assert_array_equal(photograph.pixels, np.asarray(whole.crop(box)))
    # And the dimmed rest is what lies around that crop, as far as it is shown.
    left, top = geometry.left - photograph.left, geometry.top - photograph.top
    shown_height, shown_width = photograph.shown.shape[:2]
    around = np.asarray(whole.crop((left, top, left + shown_width, top + shown_height)), int)
    middle = np.s_[photograph.top : photograph.top + size, photograph.left : photograph.left + size]
    np.testing.assert_array_equal(photograph.shown[middle], photograph.pixels)
    difference = np.abs(photograph.shown - DIMMED * around)
    difference[middle] = 0
    assert difference.max() <= 1.5
    assert max(photograph.shown.shape) <= 3 * size
    assert (photograph.shown.shape[:2] == (size, size)) == (width == height)


@pytest.mark.parametrize("form", ["BMP", "GIF", "TIFF", "WEBP"])
def test_an_image_of_another_format_has_the_pixels_that_pillow_reads(form: str) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(png(50, 33))).save(file, form, lossless=True)
    read = io.BytesIO()
    Image.open(file).convert("RGB").save(read, "PNG")
    expected = read_photograph(read.getvalue(), 32)
    found = read_photograph(file.getvalue(), 32)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    # What a server is asked about.
    assert found.encoded.startswith(b"\x89PNG")


def test_an_unreadable_image_says_why_in_one_line(data: pathlib.Path) -> None:
    whole = (data / "photos" / "cat.jpg").read_bytes()
    for encoded, text in {
        b"": "an empty file; expected a JPEG or PNG",
        b"nothing": "a file that begins with b'nothing'; expected a JPEG or PNG",
        whole[:3000]: "Invalid JPEG data",
        png(9, 9)[:60]: "Invalid PNG data",
        png(9, 9)[:16] + b"\0\1\0\0" * 2 + png(9, 9)[24:]: "claims 65536x65536 pixels",
    }.items():
        with pytest.raises(UnreadableImageError) as caught:
            read_photograph(encoded, 32)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
