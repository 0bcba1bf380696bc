"""Weights that were trained for classes of one's own, with or without names for them."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import pytest
import safetensors.numpy
import tensorflow as tf

from export.checkpoints.random_weights import random_tensor
from export.variants import Variant
from export.weights import expected_shapes
from tests.support.labelled_records import write_shard
from tests.support.trees import TINY

PETS = ("Abyssinian", "Birman, long-haired", "Sphynx", "Élan")


@pytest.fixture
def weights(tiny_variant: Variant, tmp_path: pathlib.Path) -> str:
    """A directory with the tiny variant's weights, with a head of four classes."""
    config = dataclasses.replace(tiny_variant.config, num_classes=len(PETS))
    tensors = {
        key: random_tensor(TINY, key, shape) for key, shape in expected_shapes(config).items()
    }
    (tmp_path / "weights").mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / "weights" / f"{TINY}.safetensors")
    return str(tmp_path / "weights")


@pytest.fixture
def labels(tmp_path: pathlib.Path) -> Callable[..., str]:
    def write(content: str | bytes = "\n".join(PETS)) -> str:
        path = tmp_path / "labels.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def classes_of(tree: pathlib.Path, data: pathlib.Path) -> list[str]:
    """What `classify` answers for a photograph, sorted."""
    model = tf.saved_model.load(str(tree / "serving" / TINY / "1"))
    feature = tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[(data / "photos" / "cat.jpg").read_bytes()])
    )
    example = tf.train.Example(
        features=tf.train.Features(feature={"image/encoded": feature})
    ).SerializeToString()
    (found,) = model.signatures["classify"](inputs=tf.constant([example]))["classes"].numpy()
    return sorted(name.decode() for name in found)


def test_classes_have_the_names_of_the_file(publish_tiny, weights, labels, data):
    result = publish_tiny("--checkpoints", weights, "--labels", labels())
    assert result.status == 0, result.stderr
    assert classes_of(result.tree, data) == sorted(PETS)
    for model in (TINY, f"{TINY}_fe"):
        directory = result.tree / "serving" / model / "1"
        manifest = json.loads((directory / "assets.extra" / "manifest.json").read_text())
        assert manifest["geometry"]["num_classes"] == 4
        # The accuracy that is published is of a thousand other classes.
        assert manifest["published"] is None
        page = (result.tree / "hub" / "docs" / "cait" / model / "1.md").read_text()
        assert "magenet" not in page.partition("## Input")[0]
        assert "No figures are published." in page


def test_without_a_file_classes_are_numbers(publish_tiny, weights, data):
    result = publish_tiny("--checkpoints", weights, "--heads", "classifier")
    assert result.status == 0, result.stderr
    assert classes_of(result.tree, data) == ["0", "1", "2", "3"]


def test_ends_of_lines_and_a_mark_of_order_are_not_part_of_a_name(
    publish_tiny, weights, labels, data
):
    file = labels(b"\xef\xbb\xbf" + "\r\n".join(PETS).encode() + b"\r\n\r\n")
    result = publish_tiny("--checkpoints", weights, "--labels", file, "--heads", "classifier")
    assert result.status == 0, result.stderr
    assert classes_of(result.tree, data) == sorted(PETS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\nc", "3 names; "),
        ("a\nb\n\nd", "line 3 is empty; expected a class on each"),
        ("a\nb\nc\nb", "'b' is on lines 2 and 4; expected names that tell the classes apart"),
        ("", "line 1 is empty; expected a class on each"),
        (b"a\xff", "byte 1 is not UTF-8; expected a text file"),
    ],
)
def test_a_wrong_file_is_refused(publish_tiny, weights, labels, content, message):
    file = labels(content)
    result = publish_tiny("--checkpoints", weights, "--labels", file)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: --labels {file}: {message}")
    assert result.stderr.count("\n") == 1
    assert not result.tree.exists()


def test_a_file_that_is_not_there_is_refused(publish_tiny, weights, tmp_path):
    result = publish_tiny("--checkpoints", weights, "--labels", str(tmp_path / "none.txt"))
    assert result.status == 2
    assert result.stderr == (
        f"error: --labels {tmp_path}/none.txt: cannot be read (No such file or directory)\n"
    )


def test_weights_of_other_classes_have_no_published_accuracy(publish_tiny, weights, data, tmp_path):
    cat = (data / "photos" / "cat.jpg").read_bytes()
    write_shard(tmp_path / "sample", [(cat, 1), (cat, 2)])
    flags = ("--sample_shard", str(tmp_path / "sample"), "--accuracy_gate", "on")
    result = publish_tiny("--checkpoints", weights, *flags)
    assert result.status == 2
    assert result.stderr.startswith(
        f"error: --accuracy_gate on: {weights}/{TINY}.safetensors has 4 classes; the published "
        f"accuracy of {TINY} is of 1000"
    )
    assert not result.tree.exists()
