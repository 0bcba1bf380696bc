"""CaiT as a functional `tf_keras` model of stock layers.

Every block's layers are layers of the model, so that the outputs of all of them, such as
`model.get_layer("sa_ffn_block_23").output`, are on the graph that begins with `model.input`.
"""

import dataclasses

import tensorflow as tf
import tf_keras
from tf_keras import layers

from .blocks import class_attention_block, self_attention_block
from .layers import KerasTensor, LayerMaker
from .names import attention_name, ca_block_name, sa_block_name
from .variants import CaiTConfig


def build_classifier(config: CaiTConfig, name: str, initial: bool = True) -> tf_keras.Model:
    """Builds a classifier with timm's initial distribution of weights.

    Args:
        config: the sizes and the dropout rates.
        name: the Keras model's name.
        initial: False: only the head has such weights, because others will be assigned to the rest,
            which is faster.

    Returns:
        A functional model. Input: `images` (B, S, S, 3) float32, RGB, normalised with ImageNet's
        mean and standard deviation. Output: `(logits, self_attention, class_attention)` with
        logits (B, K); a dict of `sa_ffn_block_<i>_att` (B, H, N, N), after the talking heads; and
        a dict of `ca_ffn_block_<i>_att` (B, H, 1, N+1), after softmax. The layers
        `sa_ffn_block_<i>` have the tokens (B, N, D) after each block, `ca_ffn_block_<i>` the class
        token (B, D). All of these are float32. Under one of Keras's policies for mixed precision
        products are computed in its 16 bits. Without classes it is a feature extractor, with
        features (B, D) in the place of the logits.
    """
    make = LayerMaker(config)
    images = layers.Input((config.image_size, config.image_size, 3), name="images")
    of_backbone = dataclasses.replace(make, initial=initial)
    features, self_attention, class_attention = _backbone(of_backbone, images)
    main = features
    if config.num_classes:
        main = make.dense(features, config.num_classes, "head", dtype=make.dtype)
    return tf_keras.Model(images, (main, self_attention, class_attention), name=name)


def features_of(classifier: tf_keras.Model, name: str) -> tf_keras.Model:
    """The feature extractor that shares all layers and variables of a classifier.

    Args:
        classifier: what `build_classifier` returned, with or without a head.
        name: the Keras model's name.

    Returns:
        A functional model as `build_classifier` returns it, with features (B, D), the normalised
        class token, in the place of the logits.
    """
    _, self_attention, class_attention = classifier.output
    features = classifier.get_layer("norm").output
    return tf_keras.Model(classifier.input, (features, self_attention, class_attention), name=name)


def _backbone(
    make: LayerMaker, images: KerasTensor
) -> tuple[KerasTensor, dict[str, KerasTensor], dict[str, KerasTensor]]:
    config = make.config
    tokens = make.wide(make.patch_embed(images))
    by_patch = layers.Reshape((config.patches, config.embed_dim), name="patches", dtype=make.dtype)
    tokens = by_patch(tokens)
    patches = tf.shape(tokens)[1]
    identity = tf.one_hot(tf.range(patches), config.patches, dtype=make.dtype)
    tokens += make.weight(identity, config.embed_dim, "pos_embed")
    tokens = make.dropout(tokens, config.dropout_rate, "pos_drop")

    # Computed once, for the weights of every block; from the graph, as `export.layers` says.
    heads = tf.one_hot(tf.range(patches * 0 + config.heads), config.heads, dtype=make.dtype)
    self_attention = {}
    for i in range(config.sa_blocks):
        name = sa_block_name(i)
        tokens, attention = self_attention_block(make.of(name), tokens, heads)
        self_attention[attention_name(name)] = attention

    # (B, 1) ones: the only class token is every image's.
    ones = tf.ones_like(tokens[:, 0, :1])
    class_token = make.weight(ones, config.embed_dim, "cls_token")
    class_attention = {}
    for i in range(config.ca_blocks):
        name = ca_block_name(i)
        class_token, attention = class_attention_block(make.of(name), class_token, tokens)
        class_attention[attention_name(name)] = attention
    # timm normalises all tokens and uses the class token alone.
    return make.layer_norm(class_token, "norm"), self_attention, class_attention
