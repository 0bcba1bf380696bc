"""What signatures run is what the model's layers compute, however an image's tokens are divided."""

import numpy as np
import pytest
import tensorflow as tf

from export.compute import SERVING_PROFILES, Compute, ServingProfile
from export.model import build_classifier
from export.saved_model.forward import Forward
from export.saved_model.inference import self_attention_block
from export.saved_model.signature_weights import merged_weights
from export.variants import CaiTConfig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("side", "profile"),
    [*((side, "latency") for side in (1, 2, 3, 5)), (1, "throughput"), (3, "throughput")],
)
def test_signatures_compute_what_the_layers_do(side: int, profile: ServingProfile) -> None:
    config = CaiTConfig(side * 4, 4, 16, 2, 2, layer_scale_init=0.5, num_classes=7)
    model = build_classifier(config, "tiny")
    generator = np.random.default_rng(side)
    for weight in model.weights:
        # Biases too, which a fresh model has at zero.
        weight.assign(generator.normal(scale=0.3, size=weight.shape))
    images = tf.constant(generator.normal(size=(3, side * 4, side * 4, 3)), tf.float32)
    logits, self_attention, class_attention = model(images)

    forward = Forward(model, config, Compute(profile=profile))
    found = forward.without_self_attention(images)
    np.testing.assert_allclose(forward.logits(found.features), logits, atol=1e-5)
    for block, expected in zip(found.class_attention, class_attention.values(), strict=True):
        np.testing.assert_allclose(block, expected, atol=1e-6)

    @tf.function(autograph=False)
    def attention_of_blocks(images: tf.Tensor) -> list[tf.Tensor]:
        blocks = forward.self_attention(images, tf.fill((config.sa_blocks,), 3))
        return [tf.concat(block.without_bias, 2) + block.bias for block in blocks]

    pairs = zip(attention_of_blocks(images), self_attention.values(), strict=True)
    for block, expected in pairs:
        assert block.shape[2:] == (side**2, side**2)
        np.testing.assert_allclose(block, expected, atol=1e-6)


@pytest.mark.parametrize("profile", SERVING_PROFILES)
def test_norms_and_layer_scale_may_be_in_the_weights_of_products(profile: ServingProfile) -> None:
    config = CaiTConfig(16, 4, 16, 2, 1, layer_scale_init=0.5, num_classes=7)
    forward = Forward(build_classifier(config, "tiny"), config, Compute())
    weights = forward.signature_weights.shared.named("sa_ffn_block_0")
    generator = np.random.default_rng(0)
    for weight in weights.values():
        assert isinstance(weight, tf.Variable)
        weight.assign(generator.normal(scale=0.3, size=weight.shape))
    merged = merged_weights(weights)
    assert not [name for name in merged if "norm" in name or "gamma" in name]
    tokens = tf.constant(generator.normal(size=(3, config.patches, 16)), tf.float32)
    (found, _), (expected, _) = (
        self_attention_block(config, tokens, read, Compute(profile=profile))
        for read in (merged, weights)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
