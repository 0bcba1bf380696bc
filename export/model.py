"""CaiT as a functional `tf_keras` model of stock layers.

All layers are stock layers, so that `tf_keras.models.load_model` reads a SavedModel of it where
this project is not installed. Therefore a weight that no stock layer has (class token, positions,
LayerScale, talking heads) is an `Embedding` of which all rows are looked up. The indices are
computed from a tensor of the graph: Keras stores a constant argument of an op as a list, which does
not load back.

Attention is (B, H, N, N) throughout: heads are mixed by an (H, H) x (H, N*N) product, which needs
no transposition of the largest tensor in the model.

Source: Touvron et al., "Going deeper with Image Transformers" (2021); the arithmetic is timm's.
"""

from typing import Any, TypeAlias

import tensorflow as tf
import tf_keras
from tf_keras import layers

from .names import attention_name, ca_block_name, sa_block_name
from .variants import LAYER_NORM_EPSILON, MLP_RATIO, CaiTConfig

# A symbolic tensor: tf_keras has no types.
KerasTensor: TypeAlias = Any

# timm's initial weights: a normal distribution, truncated at two, which is 100 deviations away.
_WEIGHT_STDDEV = 0.02


def build_classifier(config: CaiTConfig, name: str) -> tf_keras.Model:
    """Builds a classifier with timm's initial distribution of weights.

    Args:
        config: the sizes and the dropout rates.
        name: the Keras model's name.

    Returns:
        A functional model. Input: `images` (B, S, S, 3) float32, RGB, normalised with ImageNet's
        mean and standard deviation. Output: `(logits, self_attention, class_attention)` with
        logits (B, K); a dict of `sa_ffn_block_<i>_att` (B, H, N, N), after the talking heads; and
        a dict of `ca_ffn_block_<i>_att` (B, H, 1, N+1), after softmax.
    """
    images = layers.Input((config.image_size, config.image_size, 3), name="images")
    features, self_attention, class_attention = _backbone(config, images)
    logits = _dense(features, config.num_classes, "head")
    return tf_keras.Model(images, (logits, self_attention, class_attention), name=name)


def features_of(classifier: tf_keras.Model, name: str) -> tf_keras.Model:
    """The feature extractor that shares all layers and variables of a classifier.

    Returns:
        A functional model as `build_classifier` returns it, with features (B, D), the normalised
        class token, in the place of the logits.
    """
    _, self_attention, class_attention = classifier.output
    features = classifier.get_layer("head").input
    return tf_keras.Model(classifier.input, (features, self_attention, class_attention), name=name)


def _backbone(
    config: CaiTConfig, images: KerasTensor
) -> tuple[KerasTensor, dict[str, KerasTensor], dict[str, KerasTensor]]:
    bound = (3 * config.patch_size**2) ** -0.5
    patch_embed = layers.Conv2D(
        config.embed_dim,
        config.patch_size,
        config.patch_size,
        # timm leaves these to PyTorch: uniform, up to one over the root of the number of inputs.
        kernel_initializer=tf_keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        bias_initializer=tf_keras.initializers.RandomUniform(-bound, bound),
        name="patch_embed",
    )
    tokens = _apply(patch_embed, images)
    tokens = layers.Reshape((config.patches, config.embed_dim), name="patches")(tokens)
    patches = tf.shape(tokens)[1]
    position = tf.range(patches)
    tokens += _lookup(position, config.patches, config.embed_dim, _initializer(), "pos_embed")
    tokens = _dropout(tokens, config.dropout_rate, "pos_drop")
    tokens = tf.reshape(tokens, (-1, config.embed_dim))

    # Computed once, for the weights that every block looks up; from the graph, as said above.
    head = tf.range(patches * 0 + config.heads)
    self_attention = {}
    for i in range(config.sa_blocks):
        name = sa_block_name(i)
        with tf.name_scope(name):
            block = _self_attention_block(config, name)
        tokens, attention = block([tokens, head])
        self_attention[attention_name(name)] = attention

    tokens = tf.reshape(tokens, (-1, config.patches, config.embed_dim))
    # (B,) zeros: the only class token is looked up for every image.
    index = tf.zeros_like(tokens[:, 0, 0], dtype="int32")
    class_token = _lookup(index, 1, config.embed_dim, _initializer(), "cls_token")
    class_attention = {}
    for i in range(config.ca_blocks):
        name = ca_block_name(i)
        with tf.name_scope(name):
            block = _class_attention_block(config, name)
        class_token, attention = block([class_token, tokens, head])
        class_attention[attention_name(name)] = attention
    # timm normalises all tokens and uses the class token alone.
    return _layer_norm(class_token, "norm"), self_attention, class_attention


def _self_attention_block(config: CaiTConfig, name: str) -> tf_keras.Model:
    """[tokens (B*N, D), numbers of the heads (H,)] -> [tokens (B*N, D), attention (B, H, N, N)].

    Tokens are two-dimensional, so that a `Dense` layer is one product with a fused bias.
    """
    tokens = layers.Input((config.embed_dim,), name="tokens")
    head = layers.Input((), dtype="int32", name="head")
    first = head[:1]
    y, attention = _talking_heads_attention(config, _layer_norm(tokens, "norm1"), head)
    y = y * _layer_scale(config, first, "gamma_1")
    x = tokens + _drop_path(config, y, "drop_path1")
    y = _mlp(config, _layer_norm(x, "norm2"), config.dropout_rate)
    y = y * _layer_scale(config, first, "gamma_2")
    x = x + _drop_path(config, y, "drop_path2")
    return tf_keras.Model([tokens, head], [x, attention], name=name)


def _drop_path(config: CaiTConfig, y: KerasTensor, name: str) -> KerasTensor:
    """Stochastic depth of a residual branch (B*N, D): an image keeps all of it or none."""
    if not config.drop_path_rate:
        return y
    y = tf.reshape(y, (-1, config.patches, config.embed_dim))
    y = layers.Dropout(config.drop_path_rate, noise_shape=(None, 1, 1), name=name)(y)
    return tf.reshape(y, (-1, config.embed_dim))


def _talking_heads_attention(
    config: CaiTConfig, x: KerasTensor, head: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    """(B*N, D) -> (B*N, D) and the attention (B, H, N, N)."""
    heads, patches, dim = config.heads, config.patches, config.embed_dim
    head_dim = dim // heads
    qkv = tf.reshape(_dense(x, 3 * dim, "attn_qkv"), (-1, patches, 3, heads, head_dim))
    q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
    scores = tf.matmul(q * head_dim**-0.5, k, transpose_b=True)

    scores = tf.reshape(scores, (-1, heads, patches * patches))
    scores = _mix_heads(config, scores, head, "attn_proj_l")
    scores = tf.reshape(scores, (-1, heads, patches, patches))
    attention = tf.reshape(tf.nn.softmax(scores), (-1, heads, patches * patches))
    attention = _mix_heads(config, attention, head, "attn_proj_w")
    attention = tf.reshape(attention, (-1, heads, patches, patches))

    dropped = _dropout(attention, config.dropout_rate, "attn_drop")
    y = tf.transpose(tf.matmul(dropped, v), (0, 2, 1, 3))
    y = _dense(tf.reshape(y, (-1, dim)), dim, "attn_proj")
    return _dropout(y, config.dropout_rate, "attn_proj_drop"), attention


def _mix_heads(
    config: CaiTConfig, attention: KerasTensor, head: KerasTensor, name: str
) -> KerasTensor:
    """A linear map across heads: (B, H, N*N) -> (B, H, N*N)."""
    weight = _lookup(head, config.heads, config.heads, _initializer(), name)
    bias = _lookup(head, config.heads, 1, "zeros", f"{name}_bias")
    return tf.matmul(weight, attention) + bias


def _class_attention_block(config: CaiTConfig, name: str) -> tf_keras.Model:
    """A block that attends from the class token.

    [class token (B, D), tokens (B, N, D), numbers of the heads (H,)] -> [class token (B, D),
    attention (B, H, 1, N+1)].
    """
    heads, dim, length = config.heads, config.embed_dim, config.patches + 1
    head_dim = dim // heads
    class_token = layers.Input((dim,), name="class_token")
    tokens = layers.Input((config.patches, dim), name="tokens")
    head = layers.Input((), dtype="int32", name="head")
    first = head[:1]
    u = tf.concat([tf.reshape(class_token, (-1, 1, dim)), tokens], axis=1)
    u = _layer_norm(u, "norm1")
    q = _dense(u[:, 0], dim, "attn_q")
    q = tf.reshape(q * head_dim**-0.5, (-1, heads, 1, head_dim))
    u = tf.reshape(u, (-1, dim))
    k, v = (
        tf.transpose(
            tf.reshape(_dense(u, dim, f"attn_{part}"), (-1, length, heads, head_dim)),
            (0, 2, 1, 3),
        )
        for part in "kv"
    )
    attention = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    y = _dense(tf.reshape(tf.matmul(attention, v), (-1, dim)), dim, "attn_proj")
    x = class_token + y * _layer_scale(config, first, "gamma_1")
    y = _mlp(config, _layer_norm(x, "norm2"), 0.0)
    x = x + y * _layer_scale(config, first, "gamma_2")
    return tf_keras.Model([class_token, tokens, head], [x, attention], name=name)


def _layer_scale(config: CaiTConfig, first: KerasTensor, name: str) -> KerasTensor:
    """A vector (1, D), the only row of a weight."""
    initializer = tf_keras.initializers.Constant(config.layer_scale_init)
    return _lookup(first, 1, config.embed_dim, initializer, name)


def _mlp(config: CaiTConfig, x: KerasTensor, dropout_rate: float) -> KerasTensor:
    """(M, D) -> (M, D), with GELU in its exact form."""
    y = _dense(x, MLP_RATIO * config.embed_dim, "mlp_fc1", activation="gelu")
    y = _dropout(y, dropout_rate, "mlp_drop1")
    y = _dense(y, config.embed_dim, "mlp_fc2")
    return _dropout(y, dropout_rate, "mlp_drop2")


def _initializer() -> tf_keras.initializers.Initializer:
    return tf_keras.initializers.RandomNormal(stddev=_WEIGHT_STDDEV)


def _dense(x: KerasTensor, units: int, name: str, activation: str | None = None) -> KerasTensor:
    layer = layers.Dense(units, activation, kernel_initializer=_initializer(), name=name)
    return _apply(layer, x)


def _layer_norm(x: KerasTensor, name: str) -> KerasTensor:
    return _apply(layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name), x)


def _lookup(
    indices: KerasTensor,
    rows: int,
    columns: int,
    initializer: tf_keras.initializers.Initializer | str,
    name: str,
) -> KerasTensor:
    """Rows of a weight (rows, columns)."""
    layer = layers.Embedding(rows, columns, embeddings_initializer=initializer, name=name)
    return _apply(layer, indices)


def _apply(layer: layers.Layer, x: KerasTensor) -> KerasTensor:
    """Calls a layer after building it in a name scope, so that its weights have the block's name.

    Keras builds at the first call, outside of any scope: weights would have the same names in every
    block, and `hub.KerasLayer` tracks only one weight of each name.
    """
    with tf.name_scope(layer.name):
        layer.build(x.shape)
    return layer(x)


def _dropout(x: KerasTensor, rate: float, name: str) -> KerasTensor:
    # No layer without a rate: each would take time when the model is built and loaded.
    return layers.Dropout(rate, name=name)(x) if rate else x
