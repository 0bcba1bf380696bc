"""Positions for another image size, as the reference has them.

The model's positions are resampled by `export.positions`, with which this shares no code.
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# Keys's cubic convolution reaches two inputs to each side; PyTorch has a = -0.5 with antialiasing.
_SUPPORT = np.float32(2)
_HALF = np.float32(0.5)


def resample(positions: Array, side: int) -> Array:
    """Resamples learned positions to another grid of patches.

    The same as `interpolate(mode="bicubic", antialias=True)` of PyTorch, in timm's
    `resample_abs_pos_embed`. The formula is that of `aten/src/ATen/native/cpu/UpSampleKernel.cpp`,
    which takes it from Pillow: the kernel is stretched where the grid shrinks, cut off at the
    grid's edges, and its weights are divided by their sum. Weights are float32 there, too.

    Args:
        positions: (1, N, D) float32, of a square grid of patches, row by row.
        side: patches along a side of the new grid.

    Returns:
        (1, side * side, D) float32; `positions` itself where the grid is the same.
    """
    _, count, dim = positions.shape
    before = math.isqrt(count)
    if before == side:
        return positions
    weights = _weights(before, side)
    grid = np.einsum("xj,ijd->ixd", weights, positions.reshape(before, before, dim))
    resampled: Array = np.einsum("yi,ixd->yxd", weights, grid).reshape(1, side * side, dim)
    return resampled


def _weights(before: int, after: int) -> Array:
    """The weight of each input for each output along a side: (after, before)."""
    scale = np.float32(before) / np.float32(after)
    stretch = max(scale, np.float32(1))
    support = _SUPPORT * stretch
    rows: Array = np.zeros((after, before), np.float32)
    for output in range(after):
        centre = scale * np.float32(output + 0.5)
        first = max(int(centre - support + _HALF), 0)
        end = min(int(centre + support + _HALF), before)
        taps = np.arange(first, end, dtype=np.float32)
        weights = _cubic(np.abs(taps - centre + _HALF) / stretch)
        rows[output, first:end] = weights / weights.sum()
    return rows


def _cubic(x: Array) -> Array:
    """Keys's kernel with a = -0.5 at distances 0 <= x < 2."""
    near: Array = (1.5 * x - 2.5) * x * x + 1.0
    far: Array = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, far)
