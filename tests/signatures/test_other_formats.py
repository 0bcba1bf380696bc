"""Images of other formats: the pixels that Pillow decodes, as a PNG that models decode."""

import io

import numpy as np
import pytest
from PIL import Image

from signatures.image_header import ImageHeaderError
from signatures.other_formats import FORMATS, SUFFIXES, as_png, is_jpeg_or_png

PIXELS = np.random.default_rng(5).integers(0, 256, (7, 9, 3), np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BMP", {}),
        ("TIFF", {"icc_profile": b"x" * 500}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {"irreversible": False}),
    ],
)
def test_pixels_stay_the_same(kind, options):
    png, found = as_png(saved(Image.fromarray(PIXELS), kind, **options))
    assert found == kind
    assert is_jpeg_or_png(png)
    image = Image.open(io.BytesIO(png))
    assert (image.mode, set(image.info)) == ("RGB", set())
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_first_frame_without_alpha():
    first = Image.fromarray(PIXELS[..., 0]).convert("P")
    second = Image.fromarray(PIXELS[..., 1]).convert("P")
    gif = saved(first, "GIF", save_all=True, append_images=[second], transparency=3)
    png, found = as_png(gif)
    assert found == "GIF"
    image = Image.open(io.BytesIO(png))
    np.testing.assert_array_equal(np.asarray(image), PIXELS[..., :1].repeat(3, -1))
    alpha = np.dstack([PIXELS, PIXELS[..., 0]])
    png, _ = as_png(saved(Image.fromarray(alpha), "TIFF"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), PIXELS)


def test_avif_is_read():
    assert as_png(saved(Image.fromarray(PIXELS), "AVIF"))[1] == "AVIF"


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "an empty file; expected a JPEG or PNG"),
        (b"no image", "begins with b'no image'; expected a JPEG or PNG"),
        (saved(Image.fromarray(PIXELS), "BMP")[:-50], "a BMP that cannot be decoded"),
        (saved(Image.fromarray(PIXELS), "WEBP")[:-20], "cannot be "),
        (saved(Image.fromarray(PIXELS[..., 0].astype(np.uint16)), "TIFF"), "8 bits a channel"),
        (saved(Image.fromarray(PIXELS[..., 0].astype(np.float32)), "TIFF"), "8 bits a channel"),
        (b"P6 8000 8000 255\n", "a PPM that claims 8000x8000 pixels; expected 1 to 50000000"),
        (b"P6 90000 90000 255\n", "an image that cannot be read"),
    ],
)
def test_what_is_no_image_of_8_bits_is_refused(encoded, reason):
    with pytest.raises(ImageHeaderError, match=reason):
        as_png(encoded)


def test_every_format_has_its_names():
    Image.init()
    assert {Image.registered_extensions()[suffix] for suffix in SUFFIXES} == set(FORMATS)
