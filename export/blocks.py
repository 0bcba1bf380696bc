"""The two kinds of CaiT block, as layers of the model that they are in.

Attention is (B, H, N, N) throughout: heads are mixed by an (H, H) x (H, N*N) product, which needs
no transposition of the largest tensor in the model. Products of tokens are two-dimensional, so that
a `Dense` layer is one product with a fused bias.

Source: Touvron et al., "Going deeper with Image Transformers" (2021); the arithmetic is timm's.
"""

import tensorflow as tf
from tf_keras import layers

from .layers import KerasTensor, LayerMaker
from .names import attention_name


def self_attention_block(
    make: LayerMaker, tokens: KerasTensor, heads: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    """A block that attends from each patch to all.

    Args:
        make: makes the block's layers. The block's name is also that of the layer with its tokens.
        tokens: (B, N, D).
        heads: the identity matrix (H, H).

    Returns:
        The tokens (B, N, D), and the attention (B, H, N, N) after the talking heads.
    """
    config = make.config
    one = heads[:1, :1]
    shape = (-1, config.patches, config.embed_dim)
    y = tf.reshape(make.layer_norm(tokens, "norm1"), (-1, config.embed_dim))
    y, attention = _talking_heads_attention(make, y, heads)
    y = make.scaled(tf.reshape(y, shape), one, "gamma_1")
    x = tokens + make.drop_path(y, "drop_path1")
    y = tf.reshape(make.layer_norm(x, "norm2"), (-1, config.embed_dim))
    y = make.mlp(y, config.dropout_rate)
    y = make.scaled(tf.reshape(y, shape), one, "gamma_2")
    add = layers.Add(name=make.block, dtype=make.dtype)
    return add([x, make.drop_path(y, "drop_path2")]), attention


def _talking_heads_attention(
    make: LayerMaker, x: KerasTensor, identity: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    """(B*N, D) -> (B*N, D) and the attention (B, H, N, N)."""
    config = make.config
    heads, patches, dim = config.heads, config.patches, config.embed_dim
    head_dim = dim // heads
    qkv = tf.reshape(make.dense(x, 3 * dim, "attn_qkv"), (-1, patches, 3, heads, head_dim))
    q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
    scores = tf.matmul(q * head_dim**-0.5, k, transpose_b=True)

    scores = tf.reshape(scores, (-1, heads, patches * patches))
    scores = make.wide(_mix_heads(make, scores, identity, "attn_proj_l"))
    scores = tf.reshape(scores, (-1, heads, patches, patches))
    attention = tf.reshape(make.narrow(tf.nn.softmax(scores)), (-1, heads, patches * patches))
    attention = make.wide(_mix_heads(make, attention, identity, "attn_proj_w"))
    named = layers.Reshape(
        (heads, patches, patches), name=attention_name(make.block), dtype=make.dtype
    )
    attention = named(attention)

    dropped = make.narrow(make.dropout(attention, config.dropout_rate, "attn_drop"))
    y = tf.transpose(tf.matmul(dropped, v), (0, 2, 1, 3))
    y = make.dense(tf.reshape(y, (-1, dim)), dim, "attn_proj")
    return make.dropout(y, config.dropout_rate, "attn_proj_drop"), attention


def _mix_heads(
    make: LayerMaker, attention: KerasTensor, identity: KerasTensor, name: str
) -> KerasTensor:
    """A linear map across heads: (B, H, N*N) -> (B, H, N*N)."""
    weight = make.weight(identity, make.config.heads, name)
    bias = make.weight(identity, 1, f"{name}_bias", initial=0.0)
    return tf.matmul(make.narrow(weight), attention) + make.narrow(bias)


def class_attention_block(
    make: LayerMaker, class_token: KerasTensor, tokens: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    """A block that attends from the class token to itself and the patches.

    Args:
        make: as in `self_attention_block`.
        class_token: (B, D).
        tokens: (B, N, D).

    Returns:
        The class token (B, D), and the attention (B, H, 1, N+1) after softmax.
    """
    config = make.config
    heads, dim, length = config.heads, config.embed_dim, config.patches + 1
    head_dim = dim // heads
    one = tf.ones_like(tokens[:1, 0, :1])
    u = tf.concat([tf.reshape(class_token, (-1, 1, dim)), tokens], axis=1)
    u = make.layer_norm(u, "norm1")
    q = make.dense(u[:, 0], dim, "attn_q")
    q = tf.reshape(q * head_dim**-0.5, (-1, heads, 1, head_dim))
    u = tf.reshape(u, (-1, dim))
    k, v = (
        tf.transpose(
            tf.reshape(make.dense(u, dim, f"attn_{part}"), (-1, length, heads, head_dim)),
            (0, 2, 1, 3),
        )
        for part in "kv"
    )
    scores = make.wide(tf.matmul(q, k, transpose_b=True))
    softmax = layers.Softmax(name=attention_name(make.block), dtype=make.dtype)
    attention = softmax(scores)
    y = tf.matmul(make.narrow(attention), v)
    y = make.dense(tf.reshape(y, (-1, dim)), dim, "attn_proj")
    x = class_token + make.scaled(y, one, "gamma_1")
    y = make.mlp(make.layer_norm(x, "norm2"), 0.0)
    add = layers.Add(name=make.block, dtype=make.dtype)
    return add([x, make.scaled(y, one, "gamma_2")]), attention
