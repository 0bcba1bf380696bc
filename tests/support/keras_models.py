"""Keras models of a tiny configuration, and their blocks, with weights that are always the same."""

import numpy as np
import tensorflow as tf
import tf_keras

from export.blocks import self_attention_block
from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.layers import LayerMaker
from export.model import build_classifier
from export.variants import CaiTConfig
from export.weights import assign_weights

IMAGES = seeded_normal("model", (3, 32, 32, 3))


def built(config: CaiTConfig, name: str = "tiny") -> tf_keras.Model:
    """A classifier with random weights: the same ones for a configuration of the same sizes."""
    model = build_classifier(config, name)
    assign_weights(model, config, random_tensors("tiny", config))
    return model


def block_of(model: tf_keras.Model, config: CaiTConfig, name: str) -> tf_keras.Model:
    """A self-attention block with a model's weights: tokens (B, N, D) -> [tokens, attention]."""
    tokens = tf_keras.Input((config.patches, config.embed_dim))
    identity = tf.one_hot(tf.range(tf.shape(tokens)[1] * 0 + config.heads), config.heads)
    block = tf_keras.Model(
        tokens, list(self_attention_block(LayerMaker(config, name), tokens, identity))
    )
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


def assert_equal_outputs(one: object, two: object, atol: float = 0.0) -> None:
    tf.nest.assert_same_structure(one, two)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)
