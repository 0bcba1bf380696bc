"""The Keras model: its inputs, outputs and first weights, and its feature extractor."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.model import build_classifier, features_of
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from tests.support.keras_models import IMAGES, assert_equal_outputs, built, tiny_with

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]


@pytest.fixture(scope="module")
def deep() -> CaiTConfig:
    """More than ten blocks, which sorted by name are in another order than by number."""
    return CaiTConfig(32, 16, 16, 2, 12, ca_blocks=3, num_classes=10)


def test_outputs_have_the_names_and_the_order_that_users_have(deep: CaiTConfig) -> None:
    model = built(deep)
    for outputs in (model(IMAGES), model.output, features_of(model, "fe")(IMAGES)):
        assert isinstance(outputs, tuple)
        _, self_attention, class_attention = outputs
        assert list(self_attention) == [f"sa_ffn_block_{i}_att" for i in range(12)]
        assert list(class_attention) == [f"ca_ffn_block_{i}_att" for i in range(3)]


def test_each_output_is_what_its_name_says(deep: CaiTConfig) -> None:
    model = built(deep)
    tensors = random_tensors("tiny", deep)
    wanted: dict[str, Array] = {}

    def sink(block: int, attention: Array) -> None:
        wanted[f"sa_ffn_block_{block}_att"] = attention.copy()

    reference = forward(tensors, IMAGES, sink)
    assert reference.logits is not None
    wanted |= {f"ca_ffn_block_{i}_att": a for i, a in enumerate(reference.class_attention)}

    for main, outputs in (
        (reference.logits, model(IMAGES)),
        (reference.features, features_of(model, "fe")(IMAGES)),
    ):
        np.testing.assert_allclose(outputs[0], main, rtol=0, atol=1e-5)
        found = {**outputs[1], **outputs[2]}
        assert set(found) == set(wanted)
        for name, attention in found.items():
            np.testing.assert_allclose(attention, wanted[name], rtol=0, atol=1e-5, err_msg=name)


def test_shapes_and_types_of_inputs_and_outputs(classifier: tf_keras.Model) -> None:
    assert classifier.name == "tiny"
    (images,) = classifier.inputs
    assert (images.shape.as_list(), images.dtype) == ([None, 32, 32, 3], tf.float32)
    assert classifier.input_names == ["images"]
    logits, self_attention, class_attention = classifier.output
    assert logits.shape.as_list() == [None, 10]
    assert self_attention["sa_ffn_block_0_att"].shape.as_list() == [None, 2, 4, 4]
    assert class_attention["ca_ffn_block_0_att"].shape.as_list() == [None, 2, 1, 5]
    assert {tensor.dtype for tensor in tf.nest.flatten(classifier.output)} == {tf.float32}


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch(batch: int, classifier: tf_keras.Model) -> None:
    images = seeded_normal("batch", (batch, 32, 32, 3))
    outputs = tf.nest.flatten(classifier(images))
    assert [output.shape[0] for output in outputs] == [batch] * 5
    assert all(np.isfinite(output.numpy()).all() for output in outputs)


@pytest.mark.parametrize("classes", [1, 3, 1001])
def test_any_number_of_classes(classes: int) -> None:
    config = tiny_with(num_classes=classes)
    model = built(config)
    logits = model(IMAGES)[0]
    tensors = random_tensors("tiny", config)
    assert logits.shape == (3, classes)
    wanted = forward(tensors, IMAGES).logits
    assert wanted is not None
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


def test_more_heads_than_patches() -> None:
    # No variant is like that, but the numbers of the heads must not be cut at the patches.
    config = CaiTConfig(16, 16, 16, 4, 1, num_classes=3)
    tensors = random_tensors("tiny", config)
    images = seeded_normal("few", (2, 16, 16, 3))
    logits = built(config)(images)[0]
    wanted = forward(tensors, images).logits
    assert wanted is not None
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


def test_initial_weights_are_timm_s() -> None:
    # Wide enough for a deviation that can be told from others.
    config = CaiTConfig(32, 16, 96, 2, 1, layer_scale_init=1e-3, num_classes=10)
    model = build_classifier(config, "new")
    for variable in model.variables:
        value = variable.numpy()
        name = variable.name
        layer = name.split("/")[-2] if "/" in name else name
        if layer == "patch_embed":
            # PyTorch's own for a convolution of 16 * 16 * 3 inputs, which timm leaves as it is.
            bound = 768**-0.5
            assert bound * 0.9 < np.abs(value).max() <= bound, name
            assert value.std() == pytest.approx(bound / 3**0.5, rel=0.15), name
        elif layer in ("gamma_1", "gamma_2"):
            np.testing.assert_array_equal(value, np.full_like(value, 1e-3), err_msg=name)
        elif name.endswith("gamma:0"):
            np.testing.assert_array_equal(value, np.ones_like(value), err_msg=name)
        elif name.endswith(("bias:0", "beta:0")) or layer.endswith("_bias"):
            np.testing.assert_array_equal(value, np.zeros_like(value), err_msg=name)
        elif value.size > 500:
            assert value.std() == pytest.approx(0.02, rel=0.15), name
            assert abs(value.mean()) < 0.003, name


def test_a_model_that_weights_are_assigned_to_is_the_same_but_for_its_kernels() -> None:
    model, empty = (build_classifier(tiny_with(), "tiny", initial=flag) for flag in (True, False))
    one, other = (
        [layer.get_config() for layer in made.layers if layer.weights] for made in (model, empty)
    )
    assert one == other
    kernels = [variable for variable in empty.variables if variable.name.endswith("kernel:0")]
    # The head's stay where a checkpoint has other classes.
    filled = [variable.name for variable in kernels if variable.numpy().any()]
    assert len(kernels) > 20
    assert filled == ["head/kernel:0"]


def test_the_feature_extractor_shares_all_but_the_head(classifier: tf_keras.Model) -> None:
    extractor = features_of(classifier, "tiny_fe")
    assert extractor.name == "tiny_fe"
    shared = {id(variable) for variable in extractor.variables}
    assert shared < {id(variable) for variable in classifier.variables}
    left = {variable.name for variable in classifier.variables if id(variable) not in shared}
    assert left == {"head/kernel:0", "head/bias:0"}
    assert extractor.count_params() == classifier.count_params() - 10 * 16 - 10

    features, *attention = extractor(IMAGES)
    logits, *wanted = classifier(IMAGES)
    assert features.shape == (3, 16)
    assert_equal_outputs(attention, wanted)
    kernel, bias = classifier.get_layer("head").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=0, atol=1e-6)


def test_features_are_normalised(tiny_tensors: Tensors, classifier: tf_keras.Model) -> None:
    # The feature extractors that CaiT models of TensorFlow were published with lacked this.
    features = features_of(classifier, "fe")(IMAGES)[0].numpy()
    plain = (features - tiny_tensors["norm.bias"]) / tiny_tensors["norm.weight"]
    np.testing.assert_allclose(plain.mean(axis=1), 0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(plain.std(axis=1), 1, rtol=0, atol=1e-4)
