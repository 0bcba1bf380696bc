"""Photographs for users of NumPy: paths, bytes and pixels give what timm gives."""

import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from export import CaiTConfig, UserError, preprocess
from export.reference.preprocessing import UndecodableImageError, load_pixels, normalize
from tests.support.paths import DATA

NAME = "cait_xxs24_224"
PHOTO = DATA / "photos" / "cat.jpg"


def test_paths_bytes_and_pixels_are_alike(tmp_path: pathlib.Path) -> None:
    encoded = PHOTO.read_bytes()
    expected = normalize(load_pixels(encoded, 224))
    pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    webp = tmp_path / "cat.webp"
    Image.fromarray(pixels).save(webp, lossless=True)
    found = preprocess([PHOTO, str(PHOTO), encoded, pixels, webp], NAME)
    assert (found.shape, found.dtype) == ((5, 224, 224, 3), np.float32)
    for image in found:
        np.testing.assert_array_equal(image, expected)
    for one in (PHOTO, str(PHOTO), encoded, pixels):
        np.testing.assert_array_equal(preprocess(one, NAME), expected[np.newaxis])
    np.testing.assert_array_equal(preprocess(np.stack([pixels] * 2), NAME), found[:2])


def test_the_size_is_the_variant_s_or_another() -> None:
    assert preprocess(PHOTO, "cait_m48_448").shape == (1, 448, 448, 3)
    assert preprocess(PHOTO, NAME, image_size=96).shape == (1, 96, 96, 3)
    assert preprocess([], NAME).shape == (0, 224, 224, 3)
    assert preprocess(PHOTO, CaiTConfig(64, 16, 16, 2, 2)).shape == (1, 64, 64, 3)


def test_an_image_of_pillow_s_is_its_pixels(data: pathlib.Path) -> None:
    photo = data / "photos" / "cat_alpha.png"
    with Image.open(photo) as image:
        found = preprocess(image, NAME)
        pixels = preprocess(np.asarray(image.convert("RGB")), NAME)
    np.testing.assert_array_equal(found, pixels)


def test_the_name_may_be_of_another_size() -> None:
    np.testing.assert_array_equal(
        preprocess(PHOTO, "cait_xxs24_96"), preprocess(PHOTO, NAME, image_size=96)
    )


def test_what_cannot_be_prepared_is_named(tmp_path: pathlib.Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(PHOTO.read_bytes()[:3000])
    text = tmp_path / "text.jpg"
    text.write_bytes(b"text")
    for image in (broken, text):
        with pytest.raises(UndecodableImageError, match=re.escape(f"{image}: ")):
            preprocess([PHOTO, image], NAME)
    with pytest.raises(UndecodableImageError, match="image 1: an empty file"):
        preprocess([PHOTO, b""], NAME)
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        preprocess(tmp_path / "none.jpg", NAME)
    with pytest.raises(TypeError, match=r"image 0: pixels of type float32 and shape \(1, 1, 3\)"):
        preprocess(np.zeros((1, 1, 3), np.float32), NAME)
    with pytest.raises(TypeError, match="image 0: a int; expected a path, bytes, an image of "):
        preprocess([7], NAME)  # type: ignore[list-item]
    with pytest.raises(UserError, match="cait_xxs"):
        preprocess(PHOTO, "cait_xxs")
