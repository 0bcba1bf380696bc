"""The gate catches what it is there to catch."""

import dataclasses
import functools
import math
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import export.layers
import export.saved_model.forward
import export.saved_model.inference
import pipelines.gate.latency
import pipelines.gate.prepared_image
from export.convert import convert
from export.reference.forward_pass import forward
from export.saved_model.inference import self_attention_block
from pipelines.gate.gate import Gate
from pipelines.gate.interface import GateError
from pipelines.gate.latency import BATCH
from pipelines.gate.loaded_model import LoadedModel
from signatures import BOTH, Head, signatures_for
from tests.support.gated import (
    CONFIG,
    TENSORS,
    compared,
    convert_right,
    failing,
    prepared,
    with_weights,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(data):
    return [
        prepared(data / "photos" / name, attention)
        for name, attention in (("cat.jpg", True), ("tiny.png", True), ("coffee_cmyk.jpg", False))
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("right")


@pytest.fixture(scope="module")
def right(root) -> dict[Head, LoadedModel]:
    return convert_right(root)


@pytest.fixture
def wrong(tmp_path) -> Callable[[], LoadedModel]:
    """Converts a classifier, as the code is at the moment."""
    return lambda: convert_right(tmp_path, ("classifier",))["classifier"]


@pytest.mark.parametrize("head", BOTH)
def test_right_conversion_passes_with_every_signature_compared(right, images, head):
    gate = compared(right[head], images)
    assert failing(gate) == set()
    found = {(figure.signature, figure.output) for figure in gate.figures}
    for name, signature in signatures_for(head, CONFIG.geometry).items():
        assert {(name, tensor.name) for tensor in signature.outputs} <= found
    for block in range(CONFIG.sa_blocks):
        assert ("__call__", f"sa_ffn_block_{block}_att") in found
    assert all(figure.difference < 1e-5 for figure in gate.figures)


def test_swapped_norms_of_equal_shape_are_caught(right, images):
    one, two = "blocks.1.norm1.weight", "blocks.1.norm2.weight"
    with with_weights(right["classifier"], {one: TENSORS[two], two: TENSORS[one]}) as model:
        caught = failing(compared(model, images))
    assert ("serving_default", "logits") in caught
    assert ("__call__", "sa_ffn_block_1_att") in caught
    # What comes before the swapped tensors is right, and so the figures lead to the place.
    assert ("__call__", "sa_ffn_block_0_att") not in caught


def test_gelus_tanh_form_is_caught_in_signatures(wrong, images, monkeypatch):
    approximate = functools.partial(tf.nn.gelu, approximate=True)
    monkeypatch.setattr(export.saved_model.inference, "_gelu", approximate)
    caught = failing(compared(wrong(), images[:1]))
    assert ("serving_default", "logits") in caught
    assert ("__call__", "logits") not in caught


def test_gelus_tanh_form_is_caught_in_layers(wrong, images, monkeypatch):
    dense = export.layers.LayerMaker.dense

    def approximate(make, x, units, name, activation=None, dtype=None):
        y = dense(make, x, units, name, dtype=dtype)
        return tf.nn.gelu(y, approximate=True) if activation else y

    monkeypatch.setattr(export.layers.LayerMaker, "dense", approximate)
    caught = failing(compared(wrong(), images[:1]))
    assert ("__call__", "logits") in caught
    assert ("serving_default", "logits") not in caught


@pytest.mark.parametrize("module", [export.layers, export.saved_model.inference])
def test_wrong_epsilon_is_caught(wrong, images, monkeypatch, module):
    monkeypatch.setattr(module, "LAYER_NORM_EPSILON", 1e-3)
    # Of images without attention the first runs `logits`, and the second this one.
    plain = [image for image in images if not image.attention]
    assert ("serving_default", "logits") in failing(compared(wrong(), plain * 2))


def test_feature_extractor_without_its_last_norm_is_caught(right, images):
    norm = np.ones_like(TENSORS["norm.weight"])
    with with_weights(right["features"], {"norm.weight": norm}) as model:
        caught = failing(compared(model, images))
    assert ("serving_default", "features") in caught


def test_number_that_is_not_finite_is_caught(right, images):
    bias = np.full_like(TENSORS["head.bias"], np.nan)
    with with_weights(right["classifier"], {"head.bias": bias}) as model:
        assert ("logits", "logits") in failing(compared(model, images))


@pytest.fixture(scope="module")
def mixing_images(tmp_path_factory) -> LoadedModel:
    """Has blocks that add to an image's tokens something of its neighbour's."""
    block = self_attention_block

    def mixing(*arguments, **named):
        tokens, attention = block(*arguments, **named)
        return tokens + 0.1 * (tf.roll(tokens, 1, 0) - tokens), attention

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.saved_model.forward, "self_attention_block", mixing)
        return convert_right(tmp_path_factory.mktemp("mixing"), ("classifier",))["classifier"]


@pytest.mark.parametrize(("count", "slow"), [(1, False), (3, True)])
def test_a_batch_whose_images_are_mixed_is_caught(mixing_images, images, monkeypatch, count, slow):
    # No batch is measured where the model is slow, and how fast this machine is does not count.
    monkeypatch.setattr(pipelines.gate.latency, "_LONGEST", 0.0 if slow else math.inf)
    plain = [dataclasses.replace(image, attention=False) for image in images[:count]]
    gate = compared(mixing_images, plain)
    assert failing(gate) == set()
    gate.measure("gate", plain)
    assert failing(gate) >= {("serving_default", "logits")}
    (worst,) = (f for f in gate.figures if (f.signature, f.output) == ("serving_default", "logits"))
    assert worst.image.endswith(f"in a batch of {2 if slow else BATCH}")


def test_self_attention_whose_images_are_mixed_is_caught(mixing_images, images):
    assert ("self_attention", "attention") in failing(compared(mixing_images, images))


@pytest.mark.usefixtures("right")
def test_model_of_the_other_head_is_caught(root):
    with pytest.raises(GateError, match="logits: missing"):
        LoadedModel(root / "features", "classifier", CONFIG)


@pytest.mark.usefixtures("right")
def test_missing_variables_are_caught(root, tmp_path):
    shutil.copytree(root / "features", tmp_path / "model")
    for path in (tmp_path / "model" / "variables").iterdir():
        path.unlink()
    with pytest.raises(GateError, match="cannot be loaded"):
        LoadedModel(tmp_path / "model", "features", CONFIG)


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("marked") / "model"
    list(convert("gate", CONFIG, TENSORS, {"classifier": directory}, trained=False))
    return directory


@pytest.mark.usefixtures("right")
@pytest.mark.parametrize("trained", [False, True])
def test_a_wrong_mark_of_untrained_weights_is_caught(root, marked, trained):
    directory = marked if trained else root / "classifier"
    with pytest.raises(GateError, match="untrained; its weights were"):
        LoadedModel(directory, "classifier", CONFIG, trained)


def test_a_marked_model_is_the_same_but_for_the_mark(images, serve_from, marked):
    model = LoadedModel(marked, "classifier", CONFIG, trained=False)
    assert failing(compared(model, images)) == set()
    # As a server runs it: by the names of tensors.
    serve = serve_from(marked)
    (image, *_) = images
    logits = serve("logits", images=image.images)["logits"]
    np.testing.assert_allclose(logits, image.expected.logits, rtol=0, atol=1e-5)
    found = serve("bytes_logits", image_bytes=[image.encoded])["logits"]
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5)


def test_the_reference_runs_again_only_for_other_attention(right, data, monkeypatch):
    runs: list[bool] = []

    def counted(tensors, images, sink=None):
        runs.append(sink is not None)
        return forward(tensors, images, sink)

    monkeypatch.setattr(pipelines.gate.prepared_image, "forward", counted)
    image = prepared(data / "photos" / "cat.jpg", True)
    found = [failing(compared(model, [image])) for model in right.values()]
    assert found == [set(), set()]
    assert runs == [True]
    # A difference that the first block alone has.
    key = "blocks.0.attn.proj_w.bias"
    with with_weights(right["features"], {key: TENSORS[key] + 1e-3}) as model:
        caught = failing(compared(model, [image]))
    assert runs == [True, True]
    assert ("__call__", "sa_ffn_block_0_att") in caught
    assert ("self_attention", "attention") in caught


def test_the_main_output_has_each_of_its_signatures_compared(right, images):
    gate = Gate(right["classifier"])
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
        LoadedModel(tmp_path, "features", CONFIG)


def test_right_answers_are_counted_where_the_class_is_known(right, images):
    best = [int(np.argmax(image.expected.logits)) for image in images]
    # One with attention and one without that are right, one that is wrong, one without a class.
    labels = (best[0], (best[1] + 1) % 100, best[2], None)
    gate = compared(
        right["classifier"],
        [
            dataclasses.replace(image, label=label)
            for image, label in zip((*images, images[2]), labels, strict=True)
        ],
    )
    assert (gate.labelled, gate.correct) == (3, 2)
