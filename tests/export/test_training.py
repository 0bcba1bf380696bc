"""The Keras model in training: dropout and stochastic depth."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tf_keras

from export.checkpoints.random_weights import seeded_normal
from export.model import features_of
from tests.support.keras_models import IMAGES, assert_equal_outputs, block_of, built, tiny_with

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]


def test_a_call_is_inference_unless_training_is_asked_for(
    classifier: tf_keras.Model, with_rates: tf_keras.Model
) -> None:
    wanted = classifier(IMAGES)
    for outputs in (
        with_rates(IMAGES),
        with_rates(IMAGES),
        with_rates(IMAGES, training=False),
        with_rates(IMAGES, training=None),
    ):
        assert_equal_outputs(outputs, wanted, atol=1e-6)
    extractor = features_of(with_rates, "fe")
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


def test_dropout_is_where_timm_has_it(with_rates: tf_keras.Model) -> None:
    found = {
        layer.name: layer.rate
        for layer in with_rates.layers
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
