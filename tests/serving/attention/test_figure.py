"""The drawing."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from serving.attention.figure import PatchAttention, draw, render
from serving.attention.maps import saliency_map
from serving.attention.models import AttentionResult
from serving.attention.photograph import Photograph

pytestmark = pytest.mark.slow


def made_up(heads: int, side: int, size: int, around: int) -> tuple[Photograph, AttentionResult]:
    generator = np.random.default_rng(3)
    shown = generator.integers(0, 256, (size, size + 2 * around, 3), np.uint8)
    photograph = Photograph(b"", shown[:, around : around + size], shown, around, 0)
    maps = tuple(generator.random((heads, side, side), np.float32) for _ in range(2))
    best = [("Indian elephant", 0.5), ("tusker", 0.25), ("tub", 0.1), ("a", 0.0001), ("b", 0.0)]
    return photograph, AttentionResult(maps, saliency_map(maps[0], size), best)


@pytest.mark.parametrize("heads", [4, 6, 8, 16])
def test_the_picture_shows_the_numbers_at_a_size_to_read(heads: int) -> None:
    photograph, result = made_up(heads, 14, 224, 60)
    maps = np.random.default_rng(4).random((heads, 14, 14), np.float32)
    figure = draw("elephant.jpg", photograph, result, PatchAttention(3, 5, 7, maps))
    drawn = Image.open(io.BytesIO(render(figure, "png")))
    assert drawn.width == 1210
    assert 700 < drawn.height < 2000
    images = [image.get_array() for axes in figure.axes for image in axes.get_images()]
    shown = [np.asarray(image) for image in images]
    for wanted in (photograph.shown, result.saliency, *result.maps[0], *result.maps[1], *maps):
        assert any(np.array_equal(wanted, image) for image in shown)
    inches = [
        axes.get_window_extent().width / figure.dpi for axes in figure.axes if axes.get_images()
    ]
    assert min(inches) > 1.0
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.get_images()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_saliency_lies_on_the_crop() -> None:
    photograph, result = made_up(4, 14, 224, 60)
    figure = draw("elephant.jpg", photograph, result)
    (extent,) = (
        image.get_extent()
        for axes in figure.axes
        for image in axes.get_images()
        if np.array_equal(np.asarray(image.get_array()), result.saliency)
    )
    assert list(extent) == [59.5, 283.5, 223.5, -0.5]


def test_an_svg_has_its_words_as_text() -> None:
    photograph, result = made_up(4, 14, 224, 0)
    figure = draw("elephant.jpg, cait", photograph, result)
    svg = render(figure, "svg").decode()
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    for text in (
        "elephant.jpg, cait",
        "Indian elephant  50.0 %",
        "a  &lt; 0.1 %",
        "Class-attention block 1",
        "As the model saw it",
    ):
        assert text in words
    assert sum(word.startswith("head ") for word in words) == 8
    assert svg == render(draw("elephant.jpg, cait", photograph, result), "svg").decode()
