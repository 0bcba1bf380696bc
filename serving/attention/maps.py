"""Maps over an image's patches, computed from attention tensors.

The maps are those of figures 6 and 7 of Touvron et al., "Going deeper with Image Transformers"
(2021): how much the class token of a class-attention block attends to each patch, by head.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]


def class_attention_maps(attention: Array) -> Array:
    """Where the class token looks, for each head.

    Args:
        attention: (H, 1, N+1) or (1, H, 1, N+1) float32, `ca_ffn_block_<i>_att` of one image. Its
            first column is the attention of the class token to itself, and is left out.

    Returns:
        (H, sqrt(N), sqrt(N)) float32, rows from the top. A head's sum is 1 minus the attention of
        the class token to itself.

    Raises:
        ValueError: the shape is wrong, or N is not a square.
    """
    heads = _of_one_image(attention)
    if heads.shape[1] != 1:
        raise ValueError(f"class attention of shape {attention.shape}; expected (1, H, 1, N+1)")
    return _on_the_grid(heads[:, 0, 1:])


def patch_attention_maps(attention: Array, row: int, column: int) -> Array:
    """Where one patch looks, for each head.

    Args:
        attention: (H, N, N) or (1, H, N, N) float32, `attention` of the signature `self_attention`
            for one image. After the talking heads it may be negative, and its rows need not sum
            to 1.
        row: row of the patch, from the top.
        column: column of the patch, from the left.

    Returns:
        (H, sqrt(N), sqrt(N)) float32, rows from the top.

    Raises:
        ValueError: the shape is wrong, N is not a square, or there is no such patch.
    """
    heads = _of_one_image(attention)
    side = _side(heads.shape[2])
    if heads.shape[1] != heads.shape[2]:
        raise ValueError(f"self-attention of shape {attention.shape}; expected (1, H, N, N)")
    if not (0 <= row < side and 0 <= column < side):
        raise ValueError(f"patch {row},{column}: this model's rows and columns are 0 to {side - 1}")
    return _on_the_grid(heads[:, row * side + column])


def saliency_map(maps: Array, size: int) -> Array:
    """One map over the whole image: the mean of the heads, scaled to 0 to 1 and resized.

    Args:
        maps: (H, G, G) float32, maps of the first class-attention block.
        size: side of the image in pixels.

    Returns:
        (size, size) float32. The bicubic filter (a = -0.5 and half-pixel centres, as in
        `tf.image.resize`) may exceed 0 and 1 a little beside a steep edge. All zeros when the mean
        is constant.
    """
    small = Image.fromarray(scaled(maps.mean(axis=0)))
    large = small.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32)


def scaled(values: Array) -> Array:
    """Values scaled from their range to 0 to 1; zeros when all are equal."""
    least, greatest = values.min(), values.max()
    if least == greatest:
        return np.zeros_like(values)
    result: Array = (values - least) / (greatest - least)
    return result


def best_classes(logits: Array, count: int) -> list[tuple[int, float]]:
    """The best classes and their probabilities, best first.

    Args:
        logits: (K,) float32.
        count: number of classes to return; K if that is less.
    """
    powers = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = powers / powers.sum()
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(number), float(probabilities[number])) for number in best]


def _of_one_image(attention: Array) -> Array:
    """(H, queries, keys), without the batch."""
    if attention.ndim == 4 and len(attention) == 1:
        attention = attention[0]
    if attention.ndim != 3:
        raise ValueError(f"attention of shape {attention.shape}; expected that of one image")
    return attention


def _side(patches: int) -> int:
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"attention over {patches} patches, which are not a square")
    return side


def _on_the_grid(heads: Array) -> Array:
    side = _side(heads.shape[1])
    return heads.reshape(len(heads), side, side)
