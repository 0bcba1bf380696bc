"""Positions for another image size than that of the training."""

import math

import tensorflow as tf

from .weights import Array


def resample_positions(positions: Array, side: int) -> Array:
    """Resamples learned positions to another grid of patches, as timm does.

    The grid is resized like an image, by bicubic interpolation with antialiasing: PyTorch's
    `interpolate(mode="bicubic", antialias=True)` in timm's `resample_abs_pos_embed`.

    Args:
        positions: (1, N, D) float32, of a square grid of patches, row by row.
        side: patches along a side of the new grid.

    Returns:
        (1, side * side, D) float32; `positions` itself where the grid is the same.

    Raises:
        ValueError: the number of positions is no square.
    """
    _, count, dim = positions.shape
    before = math.isqrt(count)
    if before**2 != count:
        raise ValueError(f"{count} positions do not form a square grid of patches")
    if before == side:
        return positions
    # With antialiasing both TensorFlow and PyTorch use Keys's cubic kernel with a = -0.5.
    grid = tf.image.resize(
        positions.reshape(1, before, before, dim), (side, side), "bicubic", antialias=True
    )
    resampled: Array = grid.numpy().reshape(1, side * side, dim)
    return resampled
