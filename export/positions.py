"""Positions for another image size than that of the training."""

import math
from collections import ChainMap
from collections.abc import Mapping

import tensorflow as tf

from .variants import CaiTConfig
from .weights import Array


def with_positions_for(config: CaiTConfig, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """A checkpoint's tensors, with positions for a model's image size.

    Args:
        config: the model's sizes.
        tensors: timm's keys -> arrays in timm's layout.

    Returns:
        `tensors` itself where its positions fit.
    """
    positions = tensors.get("pos_embed")
    side = config.image_size // config.patch_size
    if positions is None or positions.ndim != 3 or positions.shape[1] == side**2:
        return tensors
    # Not a copy: the largest checkpoint has 1.4 GB.
    return ChainMap({"pos_embed": resample_positions(positions, side)}, tensors)  # type: ignore[arg-type]


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
