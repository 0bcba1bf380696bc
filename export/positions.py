"""Positions for images of another size than the one that the weights were trained with."""

import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[np.float32]


def resample_positions(positions: Array, side: int) -> Array:
    """Resamples learned positions to another grid of patches, as timm does.

    The grid is taken for an image, and scaled by bicubic interpolation with antialiasing: with
    PyTorch's `interpolate(mode="bicubic", antialias=True)` in timm's `resample_abs_pos_embed`.

    Args:
        positions: (1, N, D) float32, of a square grid of patches, row by row.
        side: patches along a side of the new grid.

    Returns:
        (1, side * side, D) float32; the positions themselves where they are of that grid.

    Raises:
        ValueError: the positions are of no square grid.
    """
    _, count, dim = positions.shape
    before = math.isqrt(count)
    if before**2 != count:
        raise ValueError(f"{count} positions are of no square grid of patches")
    if before == side:
        return positions
    # TensorFlow's cubic kernel with antialiasing is Keys's with a = -0.5, as PyTorch's is then.
    grid = tf.image.resize(
        positions.reshape(1, before, before, dim), (side, side), "bicubic", antialias=True
    )
    resampled: Array = grid.numpy().reshape(1, side * side, dim)
    return resampled
