"""Batches of images that differ, for what one image cannot show: answers that mix images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mirrored(images: Array) -> Array:
    """Images (B, S, S, 3), each mirrored from left to right."""
    return images[:, :, ::-1]


def mixed_batch(images: Sequence[Array], size: int) -> Array:
    """The images, then their mirror images, and so on: (size, S, S, 3).

    So two that follow each other differ, even where there is one image.

    Args:
        images: of (1, S, S, 3) each; at least one.
        size: how many images the batch has.
    """
    cycle = np.concatenate([*images, *map(mirrored, images)])
    return np.resize(cycle, (size, *cycle.shape[1:]))


def rows_of_images(images: int, size: int) -> list[tuple[int, int]]:
    """Rows of such a batch that are no mirror images, and the image that each is."""
    if not images:
        return []
    places = ((row, row % (2 * images)) for row in range(size))
    return [(row, image) for row, image in places if image < images]
