"""Preprocessing in the graph against timm's pixels and against Pillow itself."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from signatures.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    decode_and_crop,
    decode_batch,
    normalize,
)
from tests.support.paths import DATA

Pixels = npt.NDArray[np.uint8]

PHOTOS = DATA / "photos"
CAT = (PHOTOS / "cat.jpg").read_bytes()
TINY = (PHOTOS / "tiny.png").read_bytes()
RNG = np.random.default_rng(20240611)

with np.load(PHOTOS / "timm_eval_pixels.npz") as archive:
    TIMM: dict[str, Pixels] = dict(archive)


@cache
def graph(size: int) -> Any:
    return tf.function(
        lambda image_bytes: decode_batch(image_bytes, size),
        input_signature=[tf.TensorSpec((None,), tf.string)],
        autograph=False,
    )


def decoded(encoded: bytes, size: int) -> Pixels:
    return np.asarray(graph(size)(tf.constant([encoded]))[0])


def by_pillow(encoded: bytes, size: int) -> Pixels:
    """Torchvision's Resize and CenterCrop, written out."""
    with Image.open(io.BytesIO(encoded)) as opened:
        image = opened.convert("RGB")
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def noise(width: int, height: int, channels: int = 3) -> Pixels:
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(width: int, height: int) -> Image.Image:
    blocks = Image.fromarray(noise(width // 16 + 1, height // 16 + 1))
    return blocks.resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", ihdr) + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + parts + png_chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    frame = CAT.index(b"\xff\xc0") + 5
    return CAT[:frame] + struct.pack(">HH", height, width) + CAT[frame + 4 :]


def test_every_photo_has_expected_pixels() -> None:
    photos = {path.name for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png"}}
    assert {key.split("@")[0] for key in TIMM} == photos


@pytest.mark.parametrize("key", sorted(TIMM))
def test_pixels_of_photos_equal_timm(key: str) -> None:
    name, size = key.split("@")
    got = decoded((PHOTOS / name).read_bytes(), int(size)).astype(int)
    difference = np.abs(got - TIMM[key])
    # The promise is the first two lines. All files reach the third.
    assert np.mean(np.all(difference == 0, axis=-1)) >= 0.999
    assert difference.max() <= 2
    assert difference.max() == 0


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (1, 1),
        (1, 5),
        (7, 1),
        (2, 3),
        (32, 32),
        (32, 45),
        (46, 32),
        (224, 224),
        (224, 301),
        (300, 224),
        (225, 223),
        (2000, 30),
        (30, 2000),
        (1601, 1203),
        *[(int(w), int(h)) for w, h in np.random.default_rng(1).integers(1, 500, (20, 2))],
    ],
)
def test_any_size_equals_pillow(width: int, height: int, size: int) -> None:
    encoded = saved(Image.fromarray(noise(width, height)), "PNG", compress_level=0)
    np.testing.assert_array_equal(decoded(encoded, size), by_pillow(encoded, size))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "P"])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_png_modes_equal_pillow(mode: str) -> None:
    image = Image.fromarray(noise(51, 40, 4)).convert(mode)
    encoded = saved(image, "PNG")
    with Image.open(io.BytesIO(encoded)) as opened:
        assert opened.mode == mode
    np.testing.assert_array_equal(decoded(encoded, 32), by_pillow(encoded, 32))


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("L", 100), ("RGB", (1, 2, 3)), ("P", 3), ("P", bytes(range(50)))],
    ids=["gray", "RGB", "palette, one entry", "palette, many entries"],
)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_png_transparency_is_dropped(mode: str, transparency: object) -> None:
    encoded = saved(Image.fromarray(noise(51, 40)).convert(mode), "PNG", transparency=transparency)
    np.testing.assert_array_equal(decoded(encoded, 32), by_pillow(encoded, 32))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_grays_equals_pillow(depth: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in noise(40 * depth // 8, 33, 1))
    encoded = png(40, 33, depth, 0, rows)
    np.testing.assert_array_equal(decoded(encoded, 32), by_pillow(encoded, 32))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_equals_pillow(colour: int, channels: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in noise(40, 33, 2 * channels))
    encoded = png(40, 33, 16, colour, rows)
    np.testing.assert_array_equal(decoded(encoded, 32), by_pillow(encoded, 32))


def test_png_of_16_bit_gray_is_clipped_as_pillow_clips_it() -> None:
    values = np.arange(0, 512, 8, dtype=">u2").reshape(8, 8)
    encoded = png(8, 8, 16, 0, b"".join(b"\0" + row.tobytes() for row in values))
    expected = np.minimum(values, 255).astype(np.uint8)
    np.testing.assert_array_equal(decoded(encoded, 8), expected[..., np.newaxis].repeat(3, 2))


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 5},
        {"quality": 100},
        {"subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpegs_equal_pillow(mode: str, options: dict[str, object]) -> None:
    encoded = saved(smooth(151, 97).convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(decoded(encoded, 32), by_pillow(encoded, 32))


@pytest.mark.parametrize("kind", ["Adobe CMYK", "Adobe YCCK", "no Adobe segment"])
def test_cmyk_with_black_is_within_one_of_pillow(kind: str) -> None:
    ink = Image.merge("CMYK", [*smooth(96, 80).split(), smooth(96, 80).convert("L")])
    encoded = saved(ink, "JPEG", quality=95)
    start = encoded.index(b"\xff\xee\x00\x0eAdobe")
    if kind == "Adobe YCCK":
        encoded = encoded[: start + 15] + b"\x02" + encoded[start + 16 :]
    elif kind == "no Adobe segment":
        encoded = encoded[:start] + encoded[start + 16 :]
    difference = decoded(encoded, 80).astype(int) - by_pillow(encoded, 80)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "Input is empty. One of JPEG, PNG required."),
        (b"\xff", "Unknown image file format. One of JPEG, PNG required."),
        (b"certainly no image", "Unknown image file format. One of JPEG, PNG required."),
        (saved(smooth(9, 9), "GIF"), "Unknown image file format. One of JPEG, PNG required."),
        (saved(smooth(9, 9), "BMP"), "Unknown image file format. One of JPEG, PNG required."),
        (CAT[:3], "Invalid JPEG data, size 3"),
        (CAT[:20_000], "Invalid JPEG data"),
        (CAT[:-2], "Invalid JPEG data"),
        (TINY[:8], "Invalid PNG data, its first chunk is not IHDR"),
        (TINY[:20], "Invalid PNG"),
        (TINY[:9000], "Invalid PNG data, size 9000"),
        (TINY[:-12], "Invalid PNG data, size"),
        (TINY[:3000] + b"\0\0" + TINY[3002:], "Invalid PNG data, size"),
        (
            png(60_000, 60_000, 8, 2, b""),
            "image claims 60000x60000 pixels, more than the 50000000 that are decoded",
        ),
        (png(2**31 - 1, 2**31 - 1, 8, 2, b""), "image claims 2147483647x2147483647 pixels, more"),
        (png(5001, 10_000, 8, 2, b""), "image claims 5001x10000 pixels, more than the 50000000"),
        # At the limit the header passes, so it is the missing data that is found.
        (png(5000, 10_000, 8, 2, b""), "Invalid PNG data, size"),
        (
            jpeg_claiming(60_000, 50_000),
            "image claims 60000x50000 pixels, more than the 50000000 that are decoded",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_images(encoded: bytes, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        graph(32)(tf.constant([CAT, encoded, CAT]))
    assert caught.value.error_code == tf.errors.INVALID_ARGUMENT == 3
    assert message in caught.value.message


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        decode_and_crop(tf.constant(CAT), 0)


def test_batches() -> None:
    both = graph(32)(tf.constant([CAT, TINY, CAT]))
    assert both.dtype == tf.uint8
    np.testing.assert_array_equal(both, [decoded(one, 32) for one in (CAT, TINY, CAT)])
    empty = graph(32)(tf.zeros((0,), tf.string))
    assert (empty.shape, empty.dtype) == ((0, 32, 32, 3), tf.uint8)
    assert graph(32).get_concrete_function().outputs[0].shape.as_list() == [None, 32, 32, 3]


def test_one_image_and_without_a_graph() -> None:
    one = decode_and_crop(tf.constant(CAT), 224)
    np.testing.assert_array_equal(one, TIMM["cat.jpg@224"])


def test_large_photograph_equals_pillow_in_bounded_memory() -> None:
    encoded = saved(smooth(4000, 3000), "JPEG")
    expected = by_pillow(encoded, 224)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = decoded(encoded, 224)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(got, expected)
    assert after - before < 300 * 1024  # KiB; the decoded image alone takes 35 MiB


def all_values() -> Pixels:
    return np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)


def normalized_by_numpy(pixels: Pixels) -> npt.NDArray[np.float32]:
    scaled: npt.NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    mean: npt.NDArray[np.float32] = np.array(IMAGENET_MEAN, np.float32)
    std: npt.NDArray[np.float32] = np.array(IMAGENET_STD, np.float32)
    return (scaled - mean) / std


def test_normalize_equals_numpy() -> None:
    expected = normalized_by_numpy(all_values())
    for function in (normalize, tf.function(normalize)):
        got = function(tf.constant(all_values()))
        assert got.dtype == tf.float32
        np.testing.assert_array_equal(got, expected)


def test_runs_from_a_saved_model_in_a_session(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = decode_batch(image_bytes, 224)
        return {"pixels": pixels, "images": normalize(pixels)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path), signatures=serve)

    proto = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    operations = {node.op for function in functions for node in function.node_def}
    assert "DecodeJpeg" in operations
    assert not {op for op in operations if "PyFunc" in op or "Xla" in op}

    names = ["cat.jpg", "coffee_cmyk.jpg", "cat_alpha.png"]
    files = [(PHOTOS / name).read_bytes() for name in names]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        signature = loaded.signature_def["serving_default"]
        fed = signature.inputs["image_bytes"].name
        fetched = {key: info.name for key, info in signature.outputs.items()}
        got = session.run(fetched, {fed: files})
        expected = np.stack([TIMM[f"{name}@224"] for name in names])
        np.testing.assert_array_equal(got["pixels"], expected)
        np.testing.assert_array_equal(got["images"], normalized_by_numpy(expected))
        assert session.run(fetched, {fed: np.zeros(0, object)})["images"].shape == (0, 224, 224, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="image claims 60000x50000"):
            session.run(fetched, {fed: [CAT, jpeg_claiming(60_000, 50_000)]})
