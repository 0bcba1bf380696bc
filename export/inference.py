"""The blocks as the signatures run them, in inference.

They compute what the Keras blocks of `export.model` do, in fewer passes over the largest tensors:

- Softmax does not change when a number is added to a whole row, so the bias of the first mixing of
  heads, which is one for each head, is left out.
- The bias of the second mixing is one for each head too: what it adds to attention times values is
  that bias times the sum of the values.
- The scale of the queries is put on the (H, H) weights of the first mixing.

Not for training, where the first bias is to have a gradient, if a vanishing one.

Products may be computed in another type than float32; `export.compute` says what stays.
"""

import functools
from collections.abc import Mapping

import tensorflow as tf

from .compute import ComputeDtype
from .variants import LAYER_NORM_EPSILON, CaiTConfig

Weights = Mapping[str, tf.Tensor]


def self_attention_block(
    config: CaiTConfig, tokens: tf.Tensor, weights: Weights, dtype: ComputeDtype = "float32"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Tokens (B*N, D) -> (B*N, D), and the attention (B, H, N, N) but for its bias.

    Args:
        config: the sizes.
        tokens: all tokens of all images, float32 as everything that is returned.
        weights: of the block, by the names of `export.model`: `<layer>/<weight>`; float32.
        dtype: what products are computed in.
    """
    # Of what is float32 already, a cast adds nothing to the graph.
    narrow = functools.partial(tf.cast, dtype=dtype)
    wide = functools.partial(tf.cast, dtype=tf.float32)
    heads, patches, dim = config.heads, config.patches, config.embed_dim
    head_dim = dim // heads
    y = narrow(_layer_norm(tokens, weights, "norm1"))
    qkv = tf.reshape(_dense(y, weights, "attn_qkv"), (-1, patches, 3, heads, head_dim))
    q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
    scores = tf.matmul(q, k, transpose_b=True)
    mixing = narrow(weights["attn_proj_l/embeddings"] * head_dim**-0.5)
    scores = tf.matmul(mixing, tf.reshape(scores, (-1, heads, patches * patches)))
    attention = tf.nn.softmax(wide(tf.reshape(scores, (-1, heads, patches, patches))))
    attention = narrow(tf.reshape(attention, (-1, heads, patches * patches)))
    attention = tf.matmul(narrow(weights["attn_proj_w/embeddings"]), attention)
    attention = tf.reshape(attention, (-1, heads, patches, patches))
    y = wide(tf.matmul(attention, v))
    y += attention_bias(weights) * tf.reduce_sum(wide(v), 2, keepdims=True)
    y = tf.reshape(tf.transpose(narrow(y), (0, 2, 1, 3)), (-1, dim))
    x = tokens + wide(_dense(y, weights, "attn_proj")) * weights["gamma_1/embeddings"]
    y = tf.nn.gelu(_dense(narrow(_layer_norm(x, weights, "norm2")), weights, "mlp_fc1"))
    x += wide(_dense(y, weights, "mlp_fc2")) * weights["gamma_2/embeddings"]
    return x, wide(attention)


def attention_bias(weights: Weights) -> tf.Tensor:
    """What the attention that a block returns lacks: one number for each head (H, 1, 1)."""
    return tf.expand_dims(weights["attn_proj_w_bias/embeddings"], -1)


def _dense(x: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    product = tf.matmul(x, tf.cast(weights[f"{name}/kernel"], x.dtype))
    return tf.nn.bias_add(product, tf.cast(weights[f"{name}/bias"], x.dtype))


def _layer_norm(x: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    normalised = centred * tf.math.rsqrt(variance + LAYER_NORM_EPSILON)
    return normalised * weights[f"{name}/gamma"] + weights[f"{name}/beta"]
