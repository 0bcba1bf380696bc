"""What signatures run is what the model's layers compute, however an image's tokens are divided."""

import numpy as np
import pytest
import tensorflow as tf

from export.compute import Compute, ServingProfile
from export.model import build_classifier
from export.saved_model.forward import Forward
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
