"""The Keras model: its outputs, what acts in training, and that its layers are stock."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from export.blocks import self_attention_block
from export.checkpoints.random_weights import random_tensor, seeded_normal
from export.model import build_classifier, features_of
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from export.weights import assign_weights, expected_shapes

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]

IMAGES = seeded_normal("model", (3, 32, 32, 3))


def built(config: CaiTConfig, name: str = "tiny") -> tf_keras.Model:
    """A classifier with random weights: the same ones for a configuration of the same sizes."""
    model = build_classifier(config, name)
    assign_weights(
        model,
        config,
        {key: random_tensor("tiny", key, s) for key, s in expected_shapes(config).items()},
    )
    return model


def block_of(model: tf_keras.Model, config: CaiTConfig, name: str) -> tf_keras.Model:
    """A self-attention block with a model's weights: tokens (B, N, D) -> [tokens, attention]."""
    tokens = tf_keras.Input((config.patches, config.embed_dim))
    identity = tf.one_hot(tf.range(tf.shape(tokens)[1] * 0 + config.heads), config.heads)
    block = tf_keras.Model(tokens, list(self_attention_block(config, tokens, identity, name)))
    for layer in block.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return block


def tiny_with(**changed: float) -> CaiTConfig:
    return CaiTConfig(
        image_size=32,
        patch_size=16,
        embed_dim=16,
        heads=2,
        sa_blocks=2,
        **{"num_classes": 10, **changed},  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def classifier(tiny_config: CaiTConfig) -> tf_keras.Model:
    return built(tiny_config)


@pytest.fixture(scope="module")
def regularised() -> tf_keras.Model:
    return built(tiny_with(dropout_rate=0.3, drop_path_rate=0.3))


@pytest.fixture(scope="module")
def deep() -> CaiTConfig:
    """More than ten blocks, which sorted by name are in another order than by number."""
    return CaiTConfig(32, 16, 16, 2, 12, ca_blocks=3, num_classes=10)


def assert_equal_outputs(one: object, two: object, atol: float = 0.0) -> None:
    tf.nest.assert_same_structure(one, two)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_outputs_have_the_names_and_the_order_that_users_have(deep: CaiTConfig) -> None:
    model = built(deep)
    for outputs in (model(IMAGES), model.output, features_of(model, "fe")(IMAGES)):
        assert isinstance(outputs, tuple)
        _, self_attention, class_attention = outputs
        assert list(self_attention) == [f"sa_ffn_block_{i}_att" for i in range(12)]
        assert list(class_attention) == [f"ca_ffn_block_{i}_att" for i in range(3)]


def test_each_output_is_what_its_name_says(deep: CaiTConfig) -> None:
    model = built(deep)
    tensors = {key: random_tensor("tiny", key, s) for key, s in expected_shapes(deep).items()}
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
    tensors = {key: random_tensor("tiny", key, s) for key, s in expected_shapes(config).items()}
    assert logits.shape == (3, classes)
    wanted = forward(tensors, IMAGES).logits
    assert wanted is not None
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


def test_more_heads_than_patches() -> None:
    # No variant is like that, but the numbers of the heads must not be cut at the patches.
    config = CaiTConfig(16, 16, 16, 4, 1, num_classes=3)
    tensors = {key: random_tensor("tiny", key, s) for key, s in expected_shapes(config).items()}
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


def test_a_call_is_inference_unless_training_is_asked_for(
    classifier: tf_keras.Model, regularised: tf_keras.Model
) -> None:
    wanted = classifier(IMAGES)
    for outputs in (
        regularised(IMAGES),
        regularised(IMAGES),
        regularised(IMAGES, training=False),
        regularised(IMAGES, training=None),
    ):
        assert_equal_outputs(outputs, wanted, atol=1e-6)
    extractor = features_of(regularised, "fe")
    np.testing.assert_array_equal(extractor(IMAGES)[0], extractor(IMAGES, training=False)[0])


@pytest.mark.parametrize(
    "rates",
    [{"dropout_rate": 0.3}, {"drop_path_rate": 0.5}, {"dropout_rate": 0.3, "drop_path_rate": 0.5}],
    ids=str,
)
def test_each_rate_acts_in_training(rates: dict[str, float]) -> None:
    # Stochastic depth drops nothing at all in some draws of so small a model.
    tf_keras.utils.set_random_seed(0)
    model = built(tiny_with(**rates))
    for one in (model, features_of(model, "fe")):
        inference = one(IMAGES)[0].numpy()
        first, second = (one(IMAGES, training=True)[0].numpy() for _ in range(2))
        assert np.abs(first - inference).max() > 1e-3
        assert np.abs(second - inference).max() > 1e-3
        assert np.abs(first - second).max() > 1e-3


def test_without_rates_training_is_inference(classifier: tf_keras.Model) -> None:
    assert_equal_outputs(classifier(IMAGES, training=True), classifier(IMAGES))
    names = {layer.name for layer in classifier._flatten_layers()}
    assert not [name for name in names if "drop" in name]


def test_dropout_is_where_timm_has_it(regularised: tf_keras.Model) -> None:
    found = {
        layer.name: layer.rate
        for layer in regularised.layers
        if isinstance(layer, tf_keras.layers.Dropout)
    }
    inside = ["attn_drop", "attn_proj_drop", "mlp_drop1", "mlp_drop2", "drop_path1", "drop_path2"]
    names = ["pos_drop", *(f"sa_ffn_block_{i}_{name}" for i in range(2) for name in inside)]
    assert found == dict.fromkeys(names, 0.3)


def test_the_attention_that_is_returned_is_the_one_before_dropout() -> None:
    # Nothing but the dropout of the first block's attention comes before its attention's use,
    # so in training, too, the first block returns what inference returns.
    name = "sa_ffn_block_0"
    tokens = seeded_normal("tokens", (3, 4, 16))
    blocks = [
        block_of(built(config), config, name)
        for config in (tiny_with(drop_path_rate=0.5), tiny_with(dropout_rate=0.5))
    ]
    wanted = blocks[0](tokens)[1]
    for block in blocks:
        np.testing.assert_array_equal(block(tokens, training=True)[1], wanted)


def test_stochastic_depth_drops_the_whole_branch_of_an_image() -> None:
    tf.random.set_seed(1)
    images, patches, rate = 64, 4, 0.25
    config = tiny_with(drop_path_rate=rate)
    block = block_of(built(config), config, "sa_ffn_block_0")
    tokens = seeded_normal("tokens", (images, patches, 16))
    kept = {}
    for name in ("drop_path1", "drop_path2"):
        layer = block.get_layer(f"sa_ffn_block_0_{name}")
        watched = tf_keras.Model(block.inputs, [layer.input, layer.output])
        branch, dropped = watched(tokens, training=True)
        assert branch.shape == dropped.shape == (images, patches, 16)
        # An image's branch is left out whole, or kept whole and scaled to the same mean.
        zero = [bool((dropped[i].numpy() == 0).all()) for i in range(images)]
        for i in range(images):
            wanted = 0 * branch[i] if zero[i] else branch[i] / (1 - rate)
            np.testing.assert_allclose(dropped[i], wanted, rtol=1e-6, atol=0)
        # 16 of 64 expected; outside of these bounds less often than once in a million.
        assert 2 <= sum(zero) <= 36
        kept[name] = zero
    assert kept["drop_path1"] != kept["drop_path2"]


def test_at_a_rate_close_to_one_an_image_passes_the_blocks_unchanged() -> None:
    tf.random.set_seed(1)
    config = tiny_with(drop_path_rate=0.9999)
    model = built(config)
    block = block_of(model, config, "sa_ffn_block_1")
    tokens = seeded_normal("tokens", (5, 4, 16))
    after, _ = block(tokens, training=True)
    np.testing.assert_array_equal(after, tokens)
    # And in inference it does not.
    assert np.abs(block(tokens)[0] - tokens).max() > 0.01
    # Class attention has no stochastic depth, so images still get outputs of their own.
    logits = model(IMAGES, training=True)[0].numpy()
    assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 0.01


def test_layers_are_stock_ones(regularised: tf_keras.Model) -> None:
    layers = list(regularised._flatten_layers())
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


def test_a_model_is_rebuilt_from_its_configuration(regularised: tf_keras.Model) -> None:
    config = regularised.get_config()
    rebuilt = tf_keras.Model.from_config(config)
    assert rebuilt.name == "tiny"
    rebuilt.set_weights(regularised.get_weights())
    assert_equal_outputs(rebuilt(IMAGES), regularised(IMAGES))
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in regularised.layers]
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
