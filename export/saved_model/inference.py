"""The blocks as the signatures run them, in inference.

They compute what the Keras blocks of `export.model` do, in fewer passes over the largest tensors:

- The bias of the first mixing of heads is left out. It is one number for each head, and softmax
  does not change when a number is added to a whole row.
- The bias of the second mixing is one number for each head, too. What it adds to attention times
  values is the bias times the sum of the values.
- The scale of the queries is multiplied into the (H, H) weights of the first mixing.
- In class attention one query attends to all tokens. So the weights of the keys are multiplied into
  the query, and those of the values into the sum of the tokens: products of H rows in the place of
  N+1. The bias of the keys is one number for a whole row, and left out.

For one request at a time, an image's tokens go through a block in two streams, half of them in
each. A stream needs only the keys and the values of the other. Most operations of a small model are
too short for two cores to share, but the two streams run in parallel. Where several requests share
the cores anyway, there is one stream: longer operations, and half as many.

These blocks are not for training, in which the first bias has to have a gradient.

Products may be computed in another type than float32; `export.compute` says what stays float32.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ..compute import STREAMS, Compute
from ..variants import LAYER_NORM_EPSILON, CaiTConfig

Weights = Mapping[str, tf.Tensor]


def self_attention_block(
    config: CaiTConfig, tokens: tf.Tensor, weights: Weights, compute: Compute
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Computes a block: tokens (B, N, D) -> (B, N, D), and the attention without its bias.

    Args:
        config: the sizes.
        tokens: all tokens of all images, float32.
        weights: the block's, by the names of `export.model`: `<layer>/<weight>`; float32, or in the
            type of the products. Those of a norm or a LayerScale that is in the weights of a
            product are not there.
        compute: how.

    Returns:
        The tokens, and the attention (B, H, N, N) in parts, the rows of each stream; float32.
    """
    # A cast of float32 to float32 adds nothing to the graph.
    narrow = functools.partial(tf.cast, dtype=compute.dtype)
    wide = functools.partial(tf.cast, dtype=tf.float32)
    patches, dim = config.patches, config.embed_dim
    sizes = _stream_sizes(patches, STREAMS[compute.profile])
    by_image = tf.split(tokens, sizes, axis=1)
    streams = [tf.reshape(part, (-1, dim)) for part in by_image]
    qkv = [_dense(narrow(_layer_norm(x, weights, "norm1")), weights, "attn_qkv") for x in streams]
    parts = [_by_head(config, *part) for part in zip(qkv, sizes, strict=True)]
    queries, keys, values = zip(*parts, strict=True)
    k, v = tf.concat(keys, 2), tf.concat(values, 2)
    from_bias = narrow(attention_bias(weights) * tf.reduce_sum(wide(v), 2, keepdims=True))
    attention = [_attention(config, q, k, weights) for q in queries]
    for i, part in enumerate(attention):
        y = tf.matmul(part, v) + from_bias
        y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (-1, dim))
        x = streams[i] + _layer_scale(wide(_dense(y, weights, "attn_proj")), weights, "gamma_1")
        y = _gelu(_dense(narrow(_layer_norm(x, weights, "norm2")), weights, "mlp_fc1"))
        x += _layer_scale(wide(_dense(y, weights, "mlp_fc2")), weights, "gamma_2")
        streams[i] = tf.reshape(x, (-1, sizes[i], dim))
    return tf.concat(streams, 1), [wide(part) for part in attention]


def class_attention_block(
    config: CaiTConfig, class_token: tf.Tensor, tokens: tf.Tensor, weights: Weights
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes a block: class token (B, D), tokens (B, N, D) -> class token, attention.

    Args:
        config: the sizes.
        class_token: float32.
        tokens: those after the last self-attention block, float32.
        weights: as in `self_attention_block`.

    Returns:
        The class token (B, D) and the attention (B, H, 1, N+1); float32.
    """
    heads, dim = config.heads, config.embed_dim
    # Which of all D channels are a head's: (H, D).
    of_head = tf.one_hot(np.arange(dim) // (dim // heads), heads, axis=0)
    u = _layer_norm(tf.concat([class_token[:, tf.newaxis], tokens], 1), weights, "norm1")
    q = _dense(u[:, 0], weights, "attn_q") * (dim // heads) ** -0.5
    q = tf.reshape(q[:, tf.newaxis] * of_head, (-1, dim))
    q = tf.matmul(q, weights["attn_k/kernel"], transpose_b=True)
    scores = tf.matmul(tf.reshape(q, (-1, heads, dim)), u, transpose_b=True)
    attention = tf.nn.softmax(scores)
    y = tf.reshape(tf.matmul(attention, u), (-1, dim))
    y = tf.reshape(tf.matmul(y, weights["attn_v/kernel"]), (-1, heads, dim))
    y = tf.reduce_sum(y * of_head, 1) + weights["attn_v/bias"]
    y = _dense(y, weights, "attn_proj")
    x = class_token + y * weights["gamma_1/kernel"]
    y = _gelu(_dense(_layer_norm(x, weights, "norm2"), weights, "mlp_fc1"))
    x += _dense(y, weights, "mlp_fc2") * weights["gamma_2/kernel"]
    return x, attention[:, :, tf.newaxis]


def _stream_sizes(patches: int, streams: int) -> list[int]:
    ends = [patches * i // streams for i in range(streams + 1)]
    return [end - begin for begin, end in itertools.pairwise(ends) if end > begin]


def _by_head(config: CaiTConfig, qkv: tf.Tensor, length: int) -> list[tf.Tensor]:
    """(B*n, 3*D) -> queries, keys and values, each (B, H, n, D/H), of n tokens of each image."""
    head_dim = config.embed_dim // config.heads
    qkv = tf.reshape(qkv, (-1, length, 3, config.heads, head_dim))
    parts: list[tf.Tensor] = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
    return parts


def _attention(config: CaiTConfig, q: tf.Tensor, k: tf.Tensor, weights: Weights) -> tf.Tensor:
    """Queries (B, H, n, D/H), all keys (B, H, N, D/H) -> attention (B, H, n, N), without bias."""
    heads, patches, length = config.heads, config.patches, q.shape[2]
    narrow = functools.partial(tf.cast, dtype=q.dtype)
    scale = (config.embed_dim // heads) ** -0.5
    scores = tf.reshape(tf.matmul(q, k, transpose_b=True), (-1, heads, length * patches))
    scores = tf.matmul(narrow(weights["attn_proj_l/kernel"] * scale), scores)
    scores = tf.reshape(scores, (-1, heads, length, patches))
    attention = narrow(tf.nn.softmax(tf.cast(scores, tf.float32)))
    attention = tf.reshape(attention, (-1, heads, length * patches))
    attention = tf.matmul(narrow(weights["attn_proj_w/kernel"]), attention)
    return tf.reshape(attention, (-1, heads, length, patches))


def attention_bias(weights: Weights) -> tf.Tensor:
    """The bias that the attention of `self_attention_block` lacks: (H, 1, 1)."""
    return tf.expand_dims(weights["attn_proj_w_bias/kernel"], -1)


def _dense(x: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    product = tf.matmul(x, tf.cast(weights[f"{name}/kernel"], x.dtype))
    return tf.nn.bias_add(product, tf.cast(weights[f"{name}/bias"], x.dtype))


def _gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU in its exact form, by `Erf`: ONNX does not have the `Erfc` of `tf.nn.gelu`."""
    return 0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5))


def _layer_norm(x: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    """LayerNorm, without its scale and shift where the weights of the next product have them."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    normalised = centred * tf.math.rsqrt(variance + LAYER_NORM_EPSILON)
    if f"{name}/gamma" not in weights:
        return normalised
    return normalised * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def _layer_scale(x: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    """LayerScale, unless the weights of the product before it have it."""
    return x * weights[f"{name}/kernel"] if f"{name}/kernel" in weights else x
