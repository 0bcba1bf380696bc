"""The gate catches what it is there to catch."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import tensorflow as tf

import export.layers
import export.saved_model.forward
import export.saved_model.inference
import pipelines.gate.latency
import pipelines.gate.prepared_image
from export.checkpoints.random_weights import random_tensor
from export.convert import convert
from export.reference.forward_pass import forward
from export.saved_model.inference import self_attention_block
from export.variants import CaiTConfig
from export.weights import expected_shapes
from pipelines.gate.gate import Gate
from pipelines.gate.interface import GateError
from pipelines.gate.latency import BATCH
from pipelines.gate.prepared_image import PreparedImage, prepare_image
from signatures import BOTH, Head, signatures_for

pytestmark = pytest.mark.slow

# Small, but wide and deep enough for a small error in every block to add up as in the variants.
CONFIG = CaiTConfig(64, 16, 64, 4, 6, num_classes=100)
TENSORS = {key: random_tensor("gate", key, shape) for key, shape in expected_shapes(CONFIG).items()}


@pytest.fixture(scope="session")
def images(data):
    return [
        prepare_image(name, (data / "photos" / name).read_bytes(), attention, CONFIG, TENSORS)
        for name, attention in (("cat.jpg", True), ("tiny.png", True), ("coffee_cmyk.jpg", False))
    ]


@pytest.fixture
def gate_of(images, tmp_path) -> Callable[..., Gate]:
    """Converts tensors, as the code is at the moment, and runs the gate on what was written."""

    def run(
        tensors: Mapping[str, np.ndarray] = TENSORS,
        head: Head = "classifier",
        compared: Sequence[PreparedImage] = images,
    ) -> Gate:
        directory = tmp_path / head
        list(convert("gate", CONFIG, tensors, {head: directory}))
        gate = Gate(directory, head, CONFIG)
        gate.compare(compared)
        return gate

    return run


def failing(gate: Gate) -> set[tuple[str, str]]:
    return {
        (figure.signature, figure.output) for figure in gate.figures if not figure.within_tolerance
    }


@pytest.mark.parametrize("head", BOTH)
def test_right_conversion_passes_with_every_signature_compared(gate_of, head):
    gate = gate_of(head=head)
    assert failing(gate) == set()
    found = {(figure.signature, figure.output) for figure in gate.figures}
    for name, signature in signatures_for(head, CONFIG.geometry).items():
        assert {(name, tensor.name) for tensor in signature.outputs} <= found
    for block in range(CONFIG.sa_blocks):
        assert ("__call__", f"sa_ffn_block_{block}_att") in found
    assert all(figure.difference < 1e-5 for figure in gate.figures)


def test_swapped_norms_of_equal_shape_are_caught(gate_of):
    one, two = "blocks.3.norm1.weight", "blocks.3.norm2.weight"
    caught = failing(gate_of({**TENSORS, one: TENSORS[two], two: TENSORS[one]}))
    assert ("serving_default", "logits") in caught
    assert ("__call__", "sa_ffn_block_3_att") in caught
    # What comes before the swapped tensors is right, and so the figures lead to the place.
    assert ("__call__", "sa_ffn_block_2_att") not in caught


def test_gelus_tanh_form_is_caught_in_signatures(gate_of, monkeypatch):
    approximate = functools.partial(tf.nn.gelu, approximate=True)
    monkeypatch.setattr(export.saved_model.inference, "_gelu", approximate)
    caught = failing(gate_of())
    assert ("serving_default", "logits") in caught
    assert ("__call__", "logits") not in caught


def test_gelus_tanh_form_is_caught_in_layers(gate_of, monkeypatch):
    dense = export.layers.LayerMaker.dense

    def approximate(make, x, units, name, activation=None, dtype=None):
        y = dense(make, x, units, name, dtype=dtype)
        return tf.nn.gelu(y, approximate=True) if activation else y

    monkeypatch.setattr(export.layers.LayerMaker, "dense", approximate)
    caught = failing(gate_of())
    assert ("__call__", "logits") in caught
    assert ("serving_default", "logits") not in caught


@pytest.mark.parametrize("module", [export.layers, export.saved_model.inference])
def test_wrong_epsilon_is_caught(gate_of, monkeypatch, module):
    monkeypatch.setattr(module, "LAYER_NORM_EPSILON", 1e-3)
    assert ("serving_default", "logits") in failing(gate_of())


def test_feature_extractor_without_its_last_norm_is_caught(gate_of):
    norm = np.ones_like(TENSORS["norm.weight"])
    caught = failing(gate_of({**TENSORS, "norm.weight": norm}, head="features"))
    assert ("serving_default", "features") in caught


def test_number_that_is_not_finite_is_caught(gate_of):
    bias = np.full_like(TENSORS["head.bias"], np.nan)
    assert ("logits", "logits") in failing(gate_of({**TENSORS, "head.bias": bias}))


@pytest.fixture
def mixing_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that add to an image's tokens something of its neighbour's."""
    block = self_attention_block

    def mixing(*arguments, **named):
        tokens, attention = block(*arguments, **named)
        return tokens + 0.1 * (tf.roll(tokens, 1, 0) - tokens), attention

    monkeypatch.setattr(export.saved_model.forward, "self_attention_block", mixing)


@pytest.mark.usefixtures("mixing_images")
@pytest.mark.parametrize(("count", "slow"), [(1, False), (3, True)])
def test_a_batch_whose_images_are_mixed_is_caught(gate_of, images, monkeypatch, count, slow):
    # No batch is measured where the model is slow, and how fast this machine is does not count.
    monkeypatch.setattr(pipelines.gate.latency, "_LONGEST", 0.0 if slow else math.inf)
    plain = [dataclasses.replace(image, attention=False) for image in images[:count]]
    gate = gate_of(compared=plain)
    assert failing(gate) == set()
    gate.measure("gate", plain)
    assert failing(gate) >= {("serving_default", "logits")}
    (worst,) = (f for f in gate.figures if (f.signature, f.output) == ("serving_default", "logits"))
    assert worst.image.endswith(f"in a batch of {2 if slow else BATCH}")


@pytest.mark.usefixtures("mixing_images")
def test_self_attention_whose_images_are_mixed_is_caught(gate_of):
    assert ("self_attention", "attention") in failing(gate_of())


def test_model_of_the_other_head_is_caught(tmp_path):
    list(convert("gate", CONFIG, TENSORS, {"features": tmp_path / "model"}))
    with pytest.raises(GateError, match="logits: missing"):
        Gate(tmp_path / "model", "classifier", CONFIG)


def test_missing_variables_are_caught(tmp_path):
    list(convert("gate", CONFIG, TENSORS, {"features": tmp_path / "model"}))
    for path in (tmp_path / "model" / "variables").iterdir():
        path.unlink()
    with pytest.raises(GateError, match="cannot be loaded"):
        Gate(tmp_path / "model", "features", CONFIG)


@pytest.mark.parametrize("trained", [False, True])
def test_a_wrong_mark_of_untrained_weights_is_caught(tmp_path, trained):
    directory = tmp_path / "model"
    list(convert("gate", CONFIG, TENSORS, {"features": directory}, trained=not trained))
    with pytest.raises(GateError, match="untrained; its weights were"):
        Gate(directory, "features", CONFIG, trained=trained)


def test_a_marked_model_is_the_same_but_for_the_mark(images, serve_from, tmp_path):
    directory = tmp_path / "model"
    list(convert("gate", CONFIG, TENSORS, {"classifier": directory}, trained=False))
    gate = Gate(directory, "classifier", CONFIG, trained=False)
    gate.compare(images)
    assert failing(gate) == set()
    # As a server runs it: by the names of tensors.
    serve = serve_from(directory)
    (image, *_) = images
    logits = serve("logits", images=image.images)["logits"]
    np.testing.assert_allclose(logits, image.expected.logits, rtol=0, atol=1e-5)
    found = serve("bytes_logits", image_bytes=[image.encoded])["logits"]
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5)


def test_the_reference_runs_again_only_for_other_attention(data, tmp_path, monkeypatch):
    runs: list[bool] = []

    def counted(tensors, images, sink=None):
        runs.append(sink is not None)
        return forward(tensors, images, sink)

    monkeypatch.setattr(pipelines.gate.prepared_image, "forward", counted)
    encoded = (data / "photos" / "cat.jpg").read_bytes()
    image = prepare_image("cat.jpg", encoded, True, CONFIG, TENSORS)
    right: dict[Head, pathlib.Path] = {head: tmp_path / head for head in BOTH}
    list(convert("gate", CONFIG, TENSORS, right))
    # A difference that the first block alone has.
    key = "blocks.0.attn.proj_w.bias"
    wrong: dict[Head, pathlib.Path] = {"features": tmp_path / "wrong"}
    list(convert("gate", CONFIG, {**TENSORS, key: TENSORS[key] + 1e-3}, wrong))
    found = []
    for head, directory in (*right.items(), *wrong.items()):
        gate = Gate(directory, head, CONFIG)
        gate.compare([image])
        found.append(failing(gate))
    assert runs == [True, True]
    assert found[:2] == [set(), set()]
    assert ("__call__", "sa_ffn_block_0_att") in found[2]
    assert ("self_attention", "attention") in found[2]


def test_the_main_output_has_each_of_its_signatures_compared(images, tmp_path):
    directory = tmp_path / "model"
    list(convert("gate", CONFIG, TENSORS, {"classifier": directory}))
    gate = Gate(directory, "classifier", CONFIG)
    plain = [image for image in images if not image.attention]
    names = {("logits", "logits"), ("serving_default", "logits")}
    gate.compare(plain[:1])
    assert {figure.signature for figure in gate.figures} == {"logits"}
    gate.compare([plain[0], plain[0]])
    assert names <= {(figure.signature, figure.output) for figure in gate.figures}
    worst = {figure.signature: figure.image for figure in gate.figures}
    gate.compare([plain[0], plain[0], dataclasses.replace(images[0], name="again")])
    after = {figure.signature: figure.image for figure in gate.figures}
    assert {name: after[name] for name in worst} == worst
    assert after["class_attention"] == after["bytes_logits"] == "again"


def test_unreadable_graph_is_caught(tmp_path: pathlib.Path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(GateError, match=r"saved_model\.pb cannot be read"):
        Gate(tmp_path, "features", CONFIG)


def test_right_answers_are_counted_where_the_class_is_known(images, tmp_path):
    directory = tmp_path / "classifier"
    list(convert("gate", CONFIG, TENSORS, {"classifier": directory}))
    best = [int(np.argmax(image.expected.logits)) for image in images]
    # One with attention and one without that are right, one that is wrong, one without a class.
    labels = (best[0], (best[1] + 1) % 100, best[2], None)
    gate = Gate(directory, "classifier", CONFIG)
    gate.compare(
        [
            dataclasses.replace(image, label=label)
            for image, label in zip((*images, images[2]), labels, strict=True)
        ]
    )
    assert (gate.labelled, gate.correct) == (3, 2)
