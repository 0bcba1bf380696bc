"""Pictures of where a model looks: their numbers, the drawing, and the command."""

import io
import pathlib
import re
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.reference import forward_pass as reference
from export.reference import preprocessing as reference_preprocessing
from export.variants import CaiTConfig
from serving.attention import command as attention
from serving.attention.figure import PatchAttention, draw, render
from serving.attention.loaded import loaded_model
from serving.attention.maps import (
    best_classes,
    class_attention_maps,
    patch_attention_maps,
    saliency_map,
)
from serving.attention.models import AttentionError, AttentionResult
from serving.attention.photograph import (
    DIMMED,
    Photograph,
    UnreadableImageError,
    crop_geometry,
    read_photograph,
)
from serving.attention.served import served_model
from tests.support.arrays import Tensors
from tests.support.model_server import Running, publish, running
from tests.support.trees import convert_version

pytestmark = pytest.mark.slow

PHOTOS = ("cat.jpg", "portrait_tall.jpg", "cat_alpha.png")
WITHIN: Any = {"rtol": 0, "atol": 1e-5}


def seeds_maps(scores: Any) -> Any:
    """The maps by the recipe that this project started from, written with its own operations."""
    heads = scores.shape[1]
    side = round(np.sqrt(scores.shape[-1] - 1))
    return tf.reshape(tf.reshape(scores[0, :, 0, 1:], (heads, -1)), (heads, side, side))


def seeds_saliency(scores: Any, size: int) -> Any:
    mean = tf.reduce_mean(seeds_maps(scores), axis=0)
    mean = (mean - tf.reduce_min(mean)) / (tf.reduce_max(mean) - tf.reduce_min(mean))
    return tf.image.resize(mean[..., tf.newaxis], (size, size), method="bicubic")[..., 0]


# The numbers.


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("source", ["server", "directory"])
def test_every_map_is_that_of_the_reference(
    served: Running,
    tiny_models: dict[Any, pathlib.Path],
    tiny_tensors: Any,
    data: pathlib.Path,
    photo: str,
    source: str,
) -> None:
    encoded = (data / "photos" / photo).read_bytes()
    images = reference_preprocessing.normalize(reference_preprocessing.load_pixels(encoded, 32))
    wanted_self: dict[int, Any] = {}
    wanted = reference.forward(tiny_tensors, images[None], wanted_self.__setitem__)
    opened = (
        served_model(f"localhost:{served.port}", "cait")
        if source == "server"
        else loaded_model(tiny_models["classifier"])
    )
    with opened as model:
        photograph = read_photograph(encoded, model.image_size)
        result = model.explain(photograph)
        found_self = [model.self_attention(photograph, block) for block in range(2)]
        assert model.self_attention_blocks() == 2
    assert len(result.maps) == 2
    for maps, scores in zip(result.maps, wanted.class_attention, strict=True):
        assert maps.shape == (2, 2, 2)
        np.testing.assert_allclose(maps, seeds_maps(scores), **WITHIN)
    np.testing.assert_allclose(
        result.saliency, seeds_saliency(wanted.class_attention[0], 32), **WITHIN
    )
    for block, attention_of_block in enumerate(found_self):
        for row, column in np.ndindex(2, 2):
            np.testing.assert_allclose(
                patch_attention_maps(attention_of_block, row, column),
                wanted_self[block][0, :, 2 * row + column].reshape(2, 2, 2),
                **WITHIN,
            )
    assert wanted.logits is not None
    assert result.best is not None
    best = np.argsort(-wanted.logits[0])[:5]
    assert [label for label, _ in result.best] == [f"class {number}" for number in best]
    powers = np.exp(wanted.logits[0])
    np.testing.assert_allclose(
        [probability for _, probability in result.best], (powers / powers.sum())[best], **WITHIN
    )


def test_classes_of_one_s_own_have_their_names(
    tiny_config: CaiTConfig,
    tiny_tensors: Tensors,
    data: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    labels = tuple(f"animal {number}" for number in range(10))
    convert_version(tmp_path / "zoo" / "1", tiny_config, tiny_tensors, labels)
    encoded = (data / "photos" / "cat.jpg").read_bytes()
    images = reference_preprocessing.normalize(reference_preprocessing.load_pixels(encoded, 32))
    logits = reference.forward(tiny_tensors, images[None]).logits
    assert logits is not None
    expected = [labels[number] for number in np.argsort(-logits[0])[:5]]
    with running(model_name="zoo", model_base_path=str(tmp_path / "zoo")) as server:
        for opened in (
            served_model(f"localhost:{server.port}", "zoo"),
            loaded_model(tmp_path / "zoo" / "1"),
        ):
            with opened as model:
                best = model.explain(read_photograph(encoded, model.image_size)).best
            assert best is not None
            assert [label for label, _ in best] == expected


@pytest.mark.parametrize("heads", [4, 16])
def test_maps_and_saliency_of_any_attention(heads: int) -> None:
    scores = np.random.default_rng(heads).random((1, heads, 1, 197), np.float32)
    maps = class_attention_maps(scores)
    np.testing.assert_array_equal(maps, seeds_maps(scores))
    np.testing.assert_allclose(saliency_map(maps, 224), seeds_saliency(scores, 224), **WITHIN)


def test_a_map_that_is_the_same_everywhere_has_no_saliency() -> None:
    np.testing.assert_array_equal(saliency_map(np.ones((2, 3, 3), np.float32), 48), 0)


def test_attention_of_another_shape_is_refused() -> None:
    for shape in ((1, 2, 1, 4), (2, 2, 1, 5), (1, 2, 2, 5)):
        with pytest.raises(ValueError, match="attention"):
            class_attention_maps(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="self-attention of shape"):
        patch_attention_maps(np.zeros((1, 2, 1, 4), np.float32), 0, 0)
    with pytest.raises(ValueError, match="patch 0,2: this model's rows and columns are 0 to 1"):
        patch_attention_maps(np.zeros((1, 2, 4, 4), np.float32), 0, 2)


def test_best_classes_of_few() -> None:
    assert best_classes(np.log(np.array([0.25, 0.75], np.float32)), 5) == [
        (1, pytest.approx(0.75)),
        (0, pytest.approx(0.25)),
    ]


# The photograph.


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


# The drawing.


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


# The command.


@pytest.fixture
def photo(data: pathlib.Path) -> str:
    return str(data / "photos" / "portrait_tall.jpg")


def test_the_command_asks_a_server(
    served: Running, photo: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.svg"
    command = [photo, f"--server=localhost:{served.port}", "--model=cait", f"--output={output}"]
    assert attention.main(command) == 0
    assert capsys.readouterr().out == f"attention: {output}\n"
    text = output.read_text()
    assert "portrait_tall.jpg, cait version 1" in text
    assert "Self-attention" not in text
    assert "not trained" not in text
    assert list(tmp_path.iterdir()) == [output]
    other = tmp_path / "photo.webp"
    Image.open(photo).save(other)
    assert attention.main([str(other), *command[1:]]) == 0
    note = f"note: {other}: not a JPEG or PNG but WEBP; taken as a PNG of the same pixels\n"
    assert capsys.readouterr().err == note
    command[2] = "--model=random"
    assert attention.main(command) == 0
    warning = "not trained: the weights are random and the answers mean nothing"
    assert capsys.readouterr().err == f"note: random version 1: {warning}\n"
    assert warning in output.read_text()


def test_the_command_reads_a_saved_model(
    tiny_models: dict[Any, pathlib.Path], photo: str, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "a.svg"
    for head, told in {"classifier": "Top 5", "features": "it names no classes"}.items():
        command = [photo, f"--saved_model={tiny_models[head]}", f"--output={output}"]
        assert attention.main([*command, "--self_attention=1", "--patch=1,0"]) == 0
        assert told in output.read_text()
        assert "Self-attention block 1, from the patch in row 1, column 0" in output.read_text()
    output = tmp_path / "a.PNG"
    command = [photo, f"--saved_model={tiny_models['classifier']}", f"--output={output}"]
    assert attention.main(command) == 0
    assert Image.open(output).format == "PNG"


def test_what_is_wrong_is_said_in_one_line(
    served: Running,
    half_plus: Callable[..., pathlib.Path],
    photo: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    server = f"--server=localhost:{served.port}"
    cait = (server, "--model=cait")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"localhost:{taken.getsockname()[1]}"
        for arguments, message in {
            (photo,): "--model NAME (of a server) or --saved_model DIR is needed",
            (photo, "--model=cait", "--saved_model=x"): "--saved_model goes without --server",
            (photo, *cait, "--patch=0,0"): "--self_attention and --patch are needed together",
            (photo, *cait, "--patch=0;0"): "not ROW,COL: '0;0'",
            (photo, *cait, "--output=x.jpg"): "--output=x.jpg: the name has to end in .png or .svg",
            (photo, *cait, "--output=no/x.png"): "no such directory: no",
            ("none.jpg", *cait): "none.jpg: No such file or directory",
            (
                f"{tmp_path}/text.jpg",
                *cait,
            ): "text.jpg: a file that begins with b'no image'; expected a JPEG or PNG",
            (photo, *cait, "--model_version=7"): "serves no cait version 7",
            (photo, server, "--model=tf2"): "tf2: no signature self_attention",
            (photo, server, "--model=nobody"): "serves no nobody: Servable not found",
            (photo, f"--server={nobody}", "--model=m"): f"{nobody}: no model server answers there",
            (photo, *cait, "--self_attention=2", "--patch=0,0"): "--self_attention=2: 0 to 1",
            (photo, *cait, "--self_attention=1", "--patch=0,2"): "--patch: patch 0,2: this model's",
            (photo, f"--saved_model={tmp_path}"): "Could not find SavedModel",
            (photo, f"--saved_model={half_plus(2.0)}"): "no signature self_attention",
        }.items():
            output = (
                () if any("--output" in a for a in arguments) else (f"--output={tmp_path}/a.png",)
            )
            assert attention.main([*arguments, *output]) == 2, arguments
            told = capsys.readouterr().err
            assert message in told
            assert told.startswith("attention: ")
            assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.jpg"]


def test_a_version_that_is_still_loading_is_told_from_one_that_is_not_there(
    tiny_models: dict[Any, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cait").mkdir()
    publish(tmp_path / "cait" / "1", tiny_models["classifier"])
    flags: Any = {"max_num_load_retries": 1, "load_retry_interval_micros": 600_000_000}
    with running(model_name="cait", model_base_path=str(tmp_path / "cait"), **flags) as server:
        # Its load fails, and it stays in loading until it is tried again.
        (tmp_path / "cait" / "2").mkdir()
        server.until("cait", {1: "AVAILABLE", 2: "LOADING"})
        address = f"localhost:{server.port}"
        for version, kind, message in (
            (2, "loading", "is still loading cait version 2; try again soon"),
            (3, "missing", "serves no cait version 3"),
        ):
            with pytest.raises(AttentionError) as caught, served_model(address, "cait", version):
                pass
            assert caught.value.kind == kind
            assert message in str(caught.value)
        with served_model(address, "cait") as model:
            assert model.version == 1
