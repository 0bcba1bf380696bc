"""CaiT's forward pass in NumPy, straight from a checkpoint's arrays.

Converted models are compared with it, so it shares no code, table or weight mapping with them. It
reads timm's keys and takes every size from the arrays.
Source of the formulas: Touvron et al., "Going deeper with Image Transformers" (2021), sections 3
and 4, and Shazeer et al., "Talking-Heads Attention" (2020); key names and layouts are timm's.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import erf

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, Array]
AttentionSink = Callable[[int, Array], None]


@dataclasses.dataclass(frozen=True)
class ReferenceOutputs:
    """The outputs of one pass, float32.

    Attributes:
        logits: (B, K), or None when the checkpoint has no head.
        features: (B, D), the normalised class token before the head.
        class_attention: one (B, H, 1, N+1) array per class-attention block, after softmax.
    """

    logits: Array | None
    features: Array
    class_attention: tuple[Array, ...]


def forward(
    tensors: Tensors, images: Array, on_self_attention: AttentionSink | None = None
) -> ReferenceOutputs:
    """Runs the model on normalised images.

    Args:
        tensors: timm's keys -> float32 arrays in PyTorch's layout, looked up when needed, so that
            a file may be read lazily.
        images: (B, S, S, 3) float32, RGB, normalised.
        on_self_attention: called with each self-attention block's number and its attention
            (B, H, N, N) after the talking heads. It is not an output, because all blocks of the
            largest variant are 1.8 GiB for one image.

    Raises:
        KeyError: a tensor is missing.
    """
    x = _patch_embedding(tensors, images)
    x += tensors["pos_embed"]
    for block in range(_count_blocks(tensors, "blocks")):
        prefix = f"blocks.{block}."
        y, attention = _talking_heads_attention(
            tensors, prefix + "attn.", _layer_norm(tensors, prefix + "norm1.", x)
        )
        if on_self_attention is not None:
            on_self_attention(block, attention)
        x += tensors[prefix + "gamma_1"] * y
        y = _mlp(tensors, prefix + "mlp.", _layer_norm(tensors, prefix + "norm2.", x))
        x += tensors[prefix + "gamma_2"] * y

    token = np.repeat(tensors["cls_token"], len(images), axis=0)
    heads = tensors["blocks.0.attn.proj_l.weight"].shape[0]
    class_attention = []
    for block in range(_count_blocks(tensors, "blocks_token_only")):
        prefix = f"blocks_token_only.{block}."
        u = _layer_norm(tensors, prefix + "norm1.", np.concatenate([token, x], axis=1))
        y, attention = _class_attention(tensors, prefix + "attn.", u, heads)
        class_attention.append(attention)
        token = token + tensors[prefix + "gamma_1"] * y
        y = _mlp(tensors, prefix + "mlp.", _layer_norm(tensors, prefix + "norm2.", token))
        token = token + tensors[prefix + "gamma_2"] * y

    features = _layer_norm(tensors, "norm.", token)[:, 0]
    logits = _linear(tensors, "head.", features) if "head.weight" in tensors else None
    return ReferenceOutputs(logits, features, tuple(class_attention))


def _count_blocks(tensors: Tensors, stack: str) -> int:
    return len({key.split(".")[1] for key in tensors if key.startswith(stack + ".")})


def _linear(tensors: Tensors, prefix: str, x: Array) -> Array:
    weight = tensors[prefix + "weight"]
    y = x.reshape(-1, x.shape[-1]) @ weight.T
    y += tensors[prefix + "bias"]
    result: Array = y.reshape(*x.shape[:-1], len(weight))
    return result


def _layer_norm(tensors: Tensors, prefix: str, x: Array) -> Array:
    centred: Array = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    centred /= np.sqrt(variance + np.float32(1e-6))
    centred *= tensors[prefix + "weight"]
    centred += tensors[prefix + "bias"]
    return centred


def _softmax(x: Array) -> Array:
    y: Array = x - x.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


def _mlp(tensors: Tensors, prefix: str, x: Array) -> Array:
    hidden = _linear(tensors, prefix + "fc1.", x)
    # GELU's exact form: h * Phi(h), with the normal distribution's Phi written by erf.
    phi = erf(hidden * np.float32(np.sqrt(0.5)))
    phi += 1
    phi *= 0.5
    phi *= hidden
    return _linear(tensors, prefix + "fc2.", phi)


def _patch_embedding(tensors: Tensors, images: Array) -> Array:
    weight = tensors["patch_embed.proj.weight"]  # (D, 3, P, P)
    dim, channels, patch, _ = weight.shape
    batch, height, width, _ = images.shape
    rows, columns = height // patch, width // patch
    patches = images.reshape(batch, rows, patch, columns, patch, channels)
    patches = patches.transpose(0, 1, 3, 5, 2, 4).reshape(batch, rows * columns, -1)
    return patches @ weight.reshape(dim, -1).T + tensors["patch_embed.proj.bias"]


def _split_heads(x: Array, heads: int) -> Array:
    """(B, N, D) -> (B, H, N, D/H)."""
    batch, length, dim = x.shape
    return x.reshape(batch, length, heads, dim // heads).transpose(0, 2, 1, 3)


def _join_heads(x: Array) -> Array:
    """(B, H, N, D/H) -> (B, N, D)."""
    batch, heads, length, dim = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * dim)


def _mix_heads(tensors: Tensors, prefix: str, attention: Array) -> Array:
    """A linear map across heads, the same for every pair of query and key."""
    weight, bias = tensors[prefix + "weight"], tensors[prefix + "bias"]
    batch, heads, queries, keys = attention.shape
    mixed = weight @ attention.reshape(batch, heads, queries * keys)
    mixed += bias[:, None]
    return mixed.reshape(attention.shape)


def _talking_heads_attention(tensors: Tensors, prefix: str, x: Array) -> tuple[Array, Array]:
    heads = tensors[prefix + "proj_l.weight"].shape[0]
    q, k, v = np.split(_linear(tensors, prefix + "qkv.", x), 3, axis=-1)
    q = _split_heads(q, heads) * np.float32((q.shape[-1] // heads) ** -0.5)
    scores = q @ _split_heads(k, heads).transpose(0, 1, 3, 2)
    attention = _softmax(_mix_heads(tensors, prefix + "proj_l.", scores))
    attention = _mix_heads(tensors, prefix + "proj_w.", attention)
    y = _join_heads(attention @ _split_heads(v, heads))
    return _linear(tensors, prefix + "proj.", y), attention


def _class_attention(tensors: Tensors, prefix: str, u: Array, heads: int) -> tuple[Array, Array]:
    """Attention of the class token, u[:, :1], over itself and the patches."""
    q = _split_heads(_linear(tensors, prefix + "q.", u[:, :1]), heads)
    q *= np.float32(q.shape[-1] ** -0.5)
    k = _split_heads(_linear(tensors, prefix + "k.", u), heads)
    v = _split_heads(_linear(tensors, prefix + "v.", u), heads)
    attention = _softmax(q @ k.transpose(0, 1, 3, 2))
    return _linear(tensors, prefix + "proj.", _join_heads(attention @ v)), attention
