"""Maps and saliency by the recipe that this project started from, written with its operations."""

from typing import Any

import numpy as np
import tensorflow as tf


def seeds_maps(scores: Any) -> Any:
    """Class attention (1, H, 1, 1+N) -> a map (H, side, side) of each head."""
    heads = scores.shape[1]
    side = round(np.sqrt(scores.shape[-1] - 1))
    return tf.reshape(tf.reshape(scores[0, :, 0, 1:], (heads, -1)), (heads, side, side))


def seeds_saliency(scores: Any, size: int) -> Any:
    mean = tf.reduce_mean(seeds_maps(scores), axis=0)
    mean = (mean - tf.reduce_min(mean)) / (tf.reduce_max(mean) - tf.reduce_min(mean))
    return tf.image.resize(mean[..., tf.newaxis], (size, size), method="bicubic")[..., 0]
