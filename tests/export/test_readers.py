"""SavedModels for who builds on them: `hub.KerasLayer`, tf_keras, and Keras 3."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.convert import convert
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from signatures import BOTH, Head
from tests.support.arrays import IMAGES

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Models = dict[Head, pathlib.Path]


def assert_is_wanted(outputs: Any, wanted: dict[str, Array], head: Head) -> None:
    """Compares what a call returned with the reference's outputs."""
    main, self_attention, class_attention = outputs
    np.testing.assert_allclose(main, wanted[head], rtol=0, atol=1e-5)
    assert sorted(self_attention) == ["sa_ffn_block_0_att", "sa_ffn_block_1_att"]
    assert sorted(class_attention) == ["ca_ffn_block_0_att", "ca_ffn_block_1_att"]
    for name, attention in {**self_attention, **class_attention}.items():
        np.testing.assert_allclose(attention, wanted[name], rtol=0, atol=1e-5, err_msg=name)


# hub.KerasLayer.


@pytest.fixture(scope="module")
def loaded(tiny_models: Models) -> dict[Head, Any]:
    """Head -> the model, which a layer may be given as well as a path.

    Loaded once for all tests that leave its weights as they are.
    """
    return {head: hub.load(str(directory)) for head, directory in tiny_models.items()}


@pytest.fixture
def trained_anew(loaded: dict[Head, Any]) -> Iterator[Any]:
    """The classifier, to be trained: its weights are put back."""
    model = loaded["classifier"]
    before = [variable.numpy() for variable in model.variables]
    yield model
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it(head: Head, loaded: dict[Head, Any], wanted: dict[str, Array]) -> None:
    layer = hub.KerasLayer(loaded[head])
    assert_is_wanted(layer(IMAGES), wanted, head)
    # A layer that is not trainable has nothing to train, and a call of it changes nothing.
    assert layer.trainable_variables == []
    assert len(layer.variables) == (80 if head == "classifier" else 78)
    assert_is_wanted(layer(IMAGES, training=True), wanted, head)


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it_with_any_batch(head: Head, loaded: dict[Head, Any]) -> None:
    layer = hub.KerasLayer(loaded[head])
    for batch in (0, 1, 3):
        outputs = tf.nest.flatten(layer(IMAGES[:batch]))
        assert [output.shape[0] for output in outputs] == [batch] * 5


@pytest.mark.parametrize("head", BOTH)
def test_hub_calls_it_without_attention(
    head: Head, loaded: dict[Head, Any], wanted: dict[str, Array]
) -> None:
    layer = hub.KerasLayer(loaded[head], arguments={"return_attention": False})
    main = layer(IMAGES)
    assert isinstance(main, tf.Tensor)
    np.testing.assert_allclose(main, wanted[head], rtol=0, atol=1e-5)
    # As the hub's image conventions want it: usable in a model whose input has no batch yet.
    model = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), layer])
    assert model.output_shape == (None, 10 if head == "classifier" else 16)
    np.testing.assert_allclose(model(IMAGES), wanted[head], rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("dtype", [None, tf.float32])
def test_hub_calls_it_under_a_policy_for_16_bits(
    policy: str, dtype: tf.DType | None, trained_anew: Any, wanted: dict[str, Array]
) -> None:
    arguments = {} if dtype is None else {"dtype": dtype}
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        layer = hub.KerasLayer(trained_anew, trainable=True, **arguments)
        inputs = tf_keras.Input((32, 32, 3))
        model = tf_keras.Model(inputs, layer(inputs)[0])
        found = model(IMAGES)
        assert found.dtype == tf.float32
        # Without a type of its own the layer narrows the images; nothing else is.
        atol = 1e-5 if dtype else 0.05
        np.testing.assert_allclose(found, wanted["classifier"], rtol=0, atol=atol)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        history = model.fit(IMAGES, np.arange(len(IMAGES)), verbose=0).history
        assert np.isfinite(history["loss"]).all()
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_hub_s_gradients_are_tensors(loaded: dict[Head, Any]) -> None:
    layer = hub.KerasLayer(loaded["classifier"], trainable=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(IMAGES, training=True)[0] ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert {type(gradient).__name__ for gradient in gradients} == {"EagerTensor"}


def gets_no_gradient(name: str) -> bool:
    """Whether the loss cannot depend on a variable, whatever its value.

    A softmax does not change when one number is added to all that it is taken over. The bias of
    the first talking heads adds one to a whole row of scores, and the bias of a key adds, to the
    scores of a query, that query's product with it. The self-attention blocks have the latter,
    too, but in one variable with the biases of query and value.
    """
    return "/attn_proj_l_bias/" in name or name.endswith("attn_k/bias:0")


@pytest.mark.parametrize(("head", "attention"), [("classifier", True), ("features", False)])
def test_hub_fine_tunes_it_on_other_classes(
    head: Head, attention: bool, tiny_models: Models, tmp_path: pathlib.Path
) -> None:
    tf_keras.utils.set_random_seed(1)
    arguments = {} if attention else {"arguments": {"return_attention": False}}
    layer = hub.KerasLayer(str(tiny_models[head]), trainable=True, **arguments)
    inputs = tf_keras.Input((32, 32, 3))
    outputs = layer(inputs)
    main = outputs[0] if attention else outputs
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(5, name="classes")(main))
    count = 80 if head == "classifier" else 78
    assert len(layer.trainable_variables) == count
    assert len(model.trainable_variables) == count + 2
    assert layer.losses == []

    images = seeded_normal("fine-tuning", (10, 32, 32, 3))
    classes = np.arange(10) % 5
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(classes, model(images, training=True))
    gradients = tape.gradient(value, layer.trainable_variables)
    largest = [float(np.abs(tf.convert_to_tensor(gradient)).max()) for gradient in gradients]
    names = [variable.name for variable in layer.trainable_variables]
    assert len(set(names)) == count
    without = [i for i, name in enumerate(names) if gets_no_gradient(name)]
    assert len(without) == 2 + 2
    # Rounding is all there is to those; the others' gradients are far above it.
    for i, name in enumerate(names):
        assert largest[i] < 1e-7 if i in without else largest[i] > 1e-5, name

    before = [variable.numpy() for variable in layer.trainable_variables]
    # Plain gradient descent: a step of Adam would be as large on rounding as on a gradient.
    model.compile(tf_keras.optimizers.SGD(0.05), loss)
    history = model.fit(images, classes, batch_size=10, epochs=3, verbose=0).history["loss"]
    assert len(history) == 3
    after = model.evaluate(images, classes, batch_size=10, verbose=0)
    assert history[0] > history[1] > history[2] > after
    for i, variable in enumerate(layer.trainable_variables):
        change = np.abs(variable.numpy() - before[i]).max()
        assert change < 1e-7 if i in without else change > 1e-6, variable.name

    # What was learnt is kept, in a form that needs the original directory no more.
    model.save(tmp_path / "kept")
    again = tf_keras.models.load_model(tmp_path / "kept")
    np.testing.assert_allclose(again(images), model(images), rtol=0, atol=1e-6)
    assert len(again.trainable_variables) == count + 2
    # A file, too, goes on being trained in every variable.
    model.save(tmp_path / "kept.keras")
    custom = {"KerasLayer": hub.KerasLayer}
    again = tf_keras.models.load_model(tmp_path / "kept.keras", custom_objects=custom)
    assert len(again.trainable_variables) == count + 2
    np.testing.assert_allclose(again(images), model(images), rtol=0, atol=1e-6)


def test_hub_has_each_block_s_attention_under_its_name(tmp_path: pathlib.Path) -> None:
    # More blocks than have one digit: an order by name is not that of the numbers.
    config = CaiTConfig(32, 16, 16, 2, 11, ca_blocks=1, num_classes=0)
    tensors = random_tensors("deep", config)
    attention: dict[str, Array] = {}

    def sink(block: int, of_block: Array) -> None:
        attention[f"sa_ffn_block_{block}_att"] = of_block.copy()

    wanted = forward(tensors, IMAGES, sink).features
    list(convert("deep", config, tensors, {"features": tmp_path / "model"}))
    outputs = hub.KerasLayer(str(tmp_path / "model"))(IMAGES)
    np.testing.assert_allclose(outputs[0], wanted, rtol=0, atol=1e-5)
    assert set(outputs[1]) == set(attention)
    for name, of_block in outputs[1].items():
        np.testing.assert_allclose(of_block, attention[name], rtol=0, atol=1e-5, err_msg=name)


def test_hub_leaves_rates_to_training(
    regularised: tuple[CaiTConfig, pathlib.Path],
) -> None:
    config, directory = regularised
    tensors = random_tensors("acts", config)
    wanted = forward(tensors, IMAGES).logits
    assert wanted is not None
    # Loaded once for all three.
    loaded = hub.load(str(directory))
    layer = hub.KerasLayer(loaded, trainable=True)
    for outputs in (layer(IMAGES), layer(IMAGES, training=False)):
        np.testing.assert_allclose(outputs[0], wanted, rtol=0, atol=1e-5)

    first, second = (layer(IMAGES, training=True)[0].numpy() for _ in range(2))
    assert np.abs(first - wanted).max() > 1e-2
    assert np.abs(second - first).max() > 1e-2

    alone = hub.KerasLayer(loaded, trainable=True, arguments={"return_attention": False})
    np.testing.assert_allclose(alone(IMAGES), wanted, rtol=0, atol=1e-5)
    assert np.abs(alone(IMAGES, training=True) - wanted).max() > 1e-2
    # A layer that is not to be trained is called for inference, even within training.
    frozen = hub.KerasLayer(loaded, arguments={"return_attention": False})
    np.testing.assert_allclose(frozen(IMAGES, training=True), wanted, rtol=0, atol=1e-5)


def test_keras_leaves_rates_to_training(regularised: tuple[CaiTConfig, pathlib.Path]) -> None:
    config, directory = regularised
    tensors = random_tensors("acts", config)
    wanted = forward(tensors, IMAGES).logits
    assert wanted is not None
    model = tf_keras.models.load_model(directory)
    for logits in (model(IMAGES)[0], model.predict(IMAGES, verbose=0)[0]):
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)
    assert np.abs(model(IMAGES, training=True)[0] - wanted).max() > 1e-2


# Keras 3.


@pytest.mark.parametrize("head", BOTH)
def test_keras_3_wraps_it(head: Head, tiny_models: Models, wanted: dict[str, Array]) -> None:
    import keras

    layer = keras.layers.TFSMLayer(str(tiny_models[head]), call_endpoint="serving_default")
    name = "logits" if head == "classifier" else "features"
    outputs = layer(IMAGES)
    assert list(outputs) == [name]
    np.testing.assert_allclose(outputs[name], wanted[head], rtol=0, atol=1e-5)
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, layer(inputs)[name])
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), wanted[head], rtol=0, atol=1e-5)
