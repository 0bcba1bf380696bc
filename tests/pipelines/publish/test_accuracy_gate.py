"""A model is refused when its accuracy on a labelled sample contradicts the published one."""

import io
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from export.checkpoints.random_weights import random_tensors
from export.reference.forward_pass import forward
from export.reference.preprocessing import load_pixels, normalize
from export.variants import Variant
from pipelines.publish.options import parse
from tests.support.labelled_records import write_shard

IMAGES = 40


@pytest.fixture
def sample(tiny_variant: Variant, tmp_path: pathlib.Path) -> Callable[[int], str]:
    """Writes a sample on which so many of the tiny variant's answers are right."""
    config = tiny_variant.config
    tensors = random_tensors(tiny_variant.name, config)
    generator = np.random.default_rng(5)
    encoded = []
    for _ in range(IMAGES):
        file = io.BytesIO()
        pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        encoded.append(file.getvalue())
    stack = np.stack([load_pixels(image, config.image_size) for image in encoded])
    logits = forward(tensors, normalize(stack)).logits
    assert logits is not None
    best = np.argmax(logits, axis=-1)

    def write(correct: int) -> str:
        labels = [int(b) if i < correct else (int(b) + 1) % 1000 for i, b in enumerate(best)]
        write_shard(tmp_path / "sample", list(zip(encoded, labels, strict=True)))
        return str(tmp_path / "sample")

    return write


FLAGS = ("--heads", "classifier", "--accuracy_gate", "on")


def test_all_answers_right_contradict_a_published_accuracy_of_70_percent(publish_tiny, sample):
    # For random weights `auto` is off: they have no published accuracy.
    result = publish_tiny("--sample_shard", sample(IMAGES), *FLAGS)
    assert result.status == 1
    assert (
        "top-1 is right on 40 of 40 images; the published 70.000 % is 28.0 of them (p = "
        in result.stderr
    )
    assert not list(result.tree.glob("serving/*/*/saved_model.pb"))


def test_as_many_right_as_published_are_let_pass(publish_tiny, sample):
    result = publish_tiny("--sample_shard", sample(28), *FLAGS)
    assert result.status == 0, result.stderr
    (entry,) = json.loads((result.tree / "report.json").read_text())["models"]
    assert (entry["labelled"], entry["correct"]) == (IMAGES, 28)
    text = (result.tree / "report.md").read_text()
    assert f"- top-1: right on 28 of {IMAGES} labelled images" in text


def test_weights_that_are_not_the_hubs_are_not_tested():
    """`test_decision.py` holds a run that is not told otherwise to what `auto` does."""
    options, _ = parse(["--checkpoints", "random", "--sample_shard", "x", "--publish_to", "tree"])
    assert options.accuracy_gate == "auto"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("on", "--accuracy_gate on: no image of --sample_shard has an image/class/label"),
        ("yes", "--accuracy_gate 'yes'; expected auto, on, off"),
    ],
)
def test_wrong_input(publish_tiny, value, message):
    result = publish_tiny("--accuracy_gate", value)
    assert result.status == 2
    assert result.stderr.startswith(f"error: {message}")
    assert not result.tree.exists()
