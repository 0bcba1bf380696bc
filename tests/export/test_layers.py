"""The layers of the Keras model: stock ones, with names, on one graph."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from export.reference.forward_pass import forward
from tests.support.keras_models import IMAGES, assert_equal_outputs, built, tiny_with

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]


def test_layers_are_stock_ones(with_rates: tf_keras.Model) -> None:
    layers = list(with_rates._flatten_layers())
    assert len(layers) > 100
    for layer in layers:
        assert type(layer).__module__.startswith("tf_keras."), layer.name
        assert not isinstance(layer, tf_keras.layers.Lambda), layer.name


def test_layers_of_blocks_have_names(classifier: tf_keras.Model) -> None:
    shapes = {
        "sa_ffn_block_1": (None, 4, 16),
        "sa_ffn_block_1_att": (None, 2, 4, 4),
        "sa_ffn_block_1_attn_proj_l": (2, 2),
        "ca_ffn_block_0": (None, 16),
        "ca_ffn_block_0_att": (None, 2, 1, 5),
        "ca_ffn_block_0_attn_k": (None, 16),
        "head": (None, 10),
    }
    for name, shape in shapes.items():
        assert classifier.get_layer(name).output.shape == shape, name


def test_what_is_inside_of_a_model_is_on_its_graph(classifier: tf_keras.Model) -> None:
    # As Grad-CAM, attention rollout and integrated gradients need it.
    inside = [classifier.get_layer(f"sa_ffn_block_{i}").output for i in range(2)]
    attention = classifier.get_layer("sa_ffn_block_0_att").output
    watched = tf_keras.Model(classifier.input, [*inside, attention, classifier.output[0]])
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        *outputs, logits = watched(images)
        gradients = tape.gradient(logits[:, 3], [*outputs, images])
    for found, value in zip(gradients, [*outputs, images], strict=True):
        assert found.shape == value.shape
        assert np.abs(found).max() > 0


def test_gradients_are_tensors(classifier: tf_keras.Model) -> None:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(classifier(IMAGES, training=True)[0] ** 2)
    gradients = tape.gradient(loss, classifier.trainable_variables)
    assert {type(gradient).__name__ for gradient in gradients} == {"EagerTensor"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_policy_narrows_products_alone(policy: str, tiny_tensors: Tensors) -> None:
    config = tiny_with(dropout_rate=0.1, drop_path_rate=0.1)
    narrow = policy.removeprefix("mixed_")
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        model = built(config)
        wanted = forward(tiny_tensors, IMAGES).logits
        assert wanted is not None
        outputs = model(IMAGES)
        # What is narrow rounds to 8 or 11 bits.
        np.testing.assert_allclose(outputs[0], wanted, rtol=0, atol=0.1)
        assert np.abs(outputs[0] - wanted).max() > 1e-5
        assert {tensor.dtype for tensor in tf.nest.flatten(outputs)} == {tf.float32}
        assert {variable.dtype for variable in model.variables} == {tf.float32}
        for layer in ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2"):
            assert model.get_layer(f"sa_ffn_block_1_{layer}").compute_dtype == narrow
        for layer in ("sa_ffn_block_1_norm1", "sa_ffn_block_1", "ca_ffn_block_0_att", "head"):
            assert model.get_layer(layer).compute_dtype == "float32"
        softmax = [layer for layer in model.layers if layer.name.startswith("tf.nn.softmax")]
        assert {layer.output.dtype for layer in softmax} == {tf.float32}
        logits = tf_keras.Model(model.input, model.output[0])
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        logits.compile("sgd", loss)
        history = logits.fit(IMAGES, np.arange(3), batch_size=3, epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_a_model_is_rebuilt_from_its_configuration(with_rates: tf_keras.Model) -> None:
    config = with_rates.get_config()
    rebuilt = tf_keras.Model.from_config(config)
    assert rebuilt.name == "tiny"
    rebuilt.set_weights(with_rates.get_weights())
    assert_equal_outputs(rebuilt(IMAGES), with_rates(IMAGES))
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in with_rates.layers]
    # The rates are in it, too.
    one, two = (rebuilt(IMAGES, training=True)[0] for _ in range(2))
    assert np.abs(one - two).max() > 1e-3


def test_a_model_is_rebuilt_from_its_configuration_as_text(classifier: tf_keras.Model) -> None:
    # As a SavedModel keeps it. Types of tensors and the like are strings after it, and an op that
    # does not take one is found only when the model is called with values.
    rebuilt = tf_keras.models.model_from_json(classifier.to_json())
    rebuilt.set_weights(classifier.get_weights())
    # JSON has no tuples.
    assert_equal_outputs(tuple(rebuilt(IMAGES)), classifier(IMAGES))
    np.testing.assert_allclose(
        rebuilt.predict(IMAGES, verbose=0)[0], classifier(IMAGES)[0], rtol=0, atol=1e-6
    )
