"""Weights of another image size than the variant's, and weights without a head."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import export.positions
from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.reference.positions import resample
from export.variants import VARIANTS, Variant
from serving_configs.tree.manifest import Manifest, load_manifest
from tests.support.labelled_records import write_shard
from tests.support.pth_file import Tensors, write_tensors
from tests.support.trees import TINY, TINY_VARIANT, Result

AT_48 = "cait_tiny_48"


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """The weights of the stored outputs of timm, as trained ones."""
    return random_tensors(TINY, TINY_VARIANT.config)


@pytest.fixture
def photo(data: pathlib.Path, tmp_path: pathlib.Path) -> str:
    """A sample of a photograph with a label, twice: it takes two to have a batch."""
    cat = (data / "photos" / "cat.jpg").read_bytes()
    write_shard(tmp_path / "sample", [(cat, 3), (cat, 3)])
    return str(tmp_path / "sample")


def without_head(tensors: Tensors) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("head.")}


def manifest_of(result: Result, model: str) -> Manifest:
    assert result.status == 0, result.stderr
    return load_manifest(result.tree / "serving" / model / "1")


def page_of(result: Result, model: str) -> str:
    page = (result.tree / "hub" / "docs" / "cait" / model / "1.md").read_text()
    return " ".join(page.split())


@pytest.mark.slow
def test_weights_without_a_head_are_published_as_a_feature_extractor(
    publish_tiny, tensors: Tensors, photo: str, tmp_path: pathlib.Path
) -> None:
    path = write_tensors(tmp_path / "best.pth", without_head(tensors))
    flags = ("--checkpoints", str(path), "--heads", "features", "--sample_shard", photo)
    result = publish_tiny(*flags)
    manifest = manifest_of(result, f"{TINY}_fe")
    assert f"note: {path}: no classification head\n" in result.stderr
    assert manifest.checkpoint.notes[-1] == "no classification head"
    assert (manifest.geometry.num_classes, manifest.published) == (0, None)
    page = page_of(result, f"{TINY}_fe")
    assert "The weights have no classification head. ## Input" in page
    assert "dataset: imagenet" not in page
    assert "No figures are published." in page
    assert [path.name for path in (result.tree / "serving").iterdir() if path.is_dir()] == [
        f"{TINY}_fe"
    ]


@pytest.mark.parametrize("heads", ["classifier", "classifier,features"])
def test_a_classifier_needs_a_head(
    heads: str, publish_tiny, tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / f"{TINY}.safetensors"
    safetensors.numpy.save_file(without_head(tensors), path)
    result = publish_tiny("--checkpoints", str(tmp_path), "--heads", heads)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: checkpoint {path}: no classification head (no tensor 'head.weight'); expected "
        "one, or --heads features\n"
    )
    assert not result.tree.exists()


def test_names_of_classes_need_a_head(
    publish_tiny, tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    safetensors.numpy.save_file(without_head(tensors), tmp_path / f"{TINY}.safetensors")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    flags = ("--heads", "features", "--labels", str(tmp_path / "labels.txt"))
    result = publish_tiny("--checkpoints", str(tmp_path), *flags)
    assert result.status == 2
    assert result.stderr.splitlines()[-1].endswith(
        f"{TINY}.safetensors has no classification head; expected no names"
    )
    assert not result.tree.exists()


def assert_of_48_pixels(result: Result, data: pathlib.Path, name: str, output: str) -> None:
    """Holds the one model to its name, its shapes and timm's output."""
    serving = result.tree / "serving"
    manifest = manifest_of(result, name)
    assert [path.name for path in serving.iterdir() if path.is_dir()] == [name]
    assert (manifest.variant, manifest.published) == (AT_48, None)
    assert (manifest.geometry.image_size, manifest.geometry.patches) == (48, 9)
    assert f"for images of 48 pixels, not 32 as {TINY}'s" in manifest.checkpoint.notes
    page = page_of(result, name)
    assert "CaiT-TINY at 48 pixels" in page
    assert "RGB images of 48 x 48 pixels" in page
    assert "No figures are published." in page
    assert f"not 32 as {TINY}'s." in page
    signatures = tf.saved_model.load(str(serving / name / "1")).signatures
    images = tf.constant(seeded_normal(f"{TINY}:input 48", (2, 48, 48, 3)))
    with np.load(data / "golden" / "tiny_sizes.npz") as golden:
        found = signatures["serving_default"](images=images)[output]
        np.testing.assert_allclose(found, golden[f"48_{output}"], rtol=0, atol=2e-5)
    photo = tf.io.read_file(str(data / "photos" / "cat.jpg"))
    signatures[f"bytes_{output}"](image_bytes=photo[tf.newaxis])


@pytest.mark.slow
def test_weights_of_another_size_are_published_at_that_size(
    publish_tiny, tensors: Tensors, photo: str, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    tuned = {**tensors, "pos_embed": resample(tensors["pos_embed"], 3)}
    path = write_tensors(tmp_path / "TINY_32.pth", tuned, "module.")
    flags = ("--checkpoints", str(tmp_path), "--heads", "classifier", "--sample_shard", photo)
    result = publish_tiny(*flags)
    assert_of_48_pixels(result, data, AT_48, "logits")
    assert f"note: {path}: for images of 48 pixels, not 32 as {TINY}'s\n" in result.stderr
    notes = manifest_of(result, AT_48).checkpoint.notes
    assert not [note for note in notes if "resampled" in note]


@pytest.mark.slow
def test_image_size_resamples_positions_as_timm_does(
    publish_tiny, tensors: Tensors, photo: str, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / f"{TINY}.safetensors"
    safetensors.numpy.save_file(tensors, path)
    flags = ("--checkpoints", str(path), "--image_size", "48", "--sample_shard", photo)
    result = publish_tiny(*flags, "--heads", "features")
    assert_of_48_pixels(result, data, f"{AT_48}_fe", "features")
    note = "positions of images of 32 pixels resampled for 48"
    assert f"note: {path}: {note}\n" in result.stderr
    assert note in manifest_of(result, f"{AT_48}_fe").checkpoint.notes
    assert "Positions of images of 32 pixels resampled for 48." in page_of(result, f"{AT_48}_fe")


@pytest.mark.slow
def test_positions_that_are_resampled_to_the_variant_s_size_have_no_published_accuracy(
    publish_tiny, tensors: Tensors, photo: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / f"{TINY}.safetensors"
    safetensors.numpy.save_file({**tensors, "pos_embed": resample(tensors["pos_embed"], 5)}, path)
    flags = ("--checkpoints", str(path), "--image_size", "32", "--sample_shard", photo)
    result = publish_tiny(*flags, "--heads", "features")
    manifest = manifest_of(result, f"{TINY}_fe")
    assert manifest.published is None
    assert manifest.checkpoint.notes == ("positions of images of 80 pixels resampled for 32",)


@pytest.mark.slow
def test_the_gate_refuses_positions_that_are_resampled_otherwise(
    publish_tiny, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bilinear(positions: np.ndarray, side: int) -> np.ndarray:
        grid = tf.image.resize(positions.reshape(1, 2, 2, -1), (side, side), "bilinear")
        return grid.numpy().reshape(1, side * side, -1)

    monkeypatch.setattr(export.positions, "resample_positions", bilinear)
    flags = ("--image_size", "48", "--heads", "features", "--sample_shard", photo)
    result = publish_tiny(*flags, anew=True)
    assert result.status == 1
    assert f"refused: {AT_48}_fe: serving_default: features differs by" in result.stderr


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("40", f"{TINY} needs a multiple of 16, the size of its patches; expected 32 or 48"),
        ("0", "expected 1 or more"),
        ("48x32", "expected 1 or more"),
    ],
)
def test_a_size_that_no_model_has_is_refused(size: str, message: str, publish_tiny) -> None:
    result = publish_tiny("--image_size", size)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: --image_size {size}")
    assert result.stderr.endswith(f"{message}\n")
    assert result.stderr.count("\n") == 1
    assert not result.tree.exists()


@pytest.fixture
def tiny_64(tiny_variant: Variant, monkeypatch: pytest.MonkeyPatch) -> Variant:
    """The same network as the tiny variant, a variant of its own at 64 pixels."""
    config = dataclasses.replace(tiny_variant.config, image_size=64)
    variant = dataclasses.replace(tiny_variant, name="cait_tiny_64", config=config, deit_file="")
    monkeypatch.setitem(VARIANTS, variant.name, variant)
    return variant


def test_a_model_never_gets_the_name_of_another_variant(
    publish_tiny, tiny_64: Variant, tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    refused: Callable[..., str] = lambda *flags: _refused(publish_tiny(*flags))  # noqa: E731
    assert refused("--image_size", "64") == (
        f"error: --image_size 64: {TINY} of that size is cait_tiny_64, another variant; expected "
        "--variants cait_tiny_64\n"
    )
    assert refused("--variants", f"{TINY},cait_tiny_64", "--image_size", "48").endswith(
        f"would both be {AT_48}; expected one of them\n"
    )
    tuned = {**tensors, "pos_embed": resample(tensors["pos_embed"], 4)}
    safetensors.numpy.save_file(tuned, tmp_path / f"{TINY}.safetensors")
    assert "as those of cait_tiny_64; expected --variants cait_tiny_64, or --image_size 32" in (
        refused("--checkpoints", str(tmp_path))
    )


def _refused(result: Result) -> str:
    assert (result.status, result.stdout) == (2, "")
    assert not result.tree.exists()
    return result.stderr


def test_no_accuracy_is_published_of_another_size(publish_tiny, photo: str) -> None:
    flags = ("--image_size", "48", "--accuracy_gate", "on", "--sample_shard", photo)
    result = publish_tiny(*flags)
    assert result.status == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: --accuracy_gate on: no accuracy is published of {TINY} with positions for 32 "
        "pixels on images of 48; expected --accuracy_gate off"
    )
