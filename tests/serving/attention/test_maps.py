"""The numbers of a picture of attention."""

from typing import Any

import numpy as np
import pytest

from serving.attention.maps import (
    best_classes,
    class_attention_maps,
    patch_attention_maps,
    saliency_map,
)
from tests.support.attention_maps import seeds_maps, seeds_saliency

WITHIN: Any = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("heads", [4, 16])
def test_maps_and_saliency_of_any_attention(heads: int) -> None:
    scores = np.random.default_rng(heads).random((1, heads, 1, 197), np.float32)
    maps = class_attention_maps(scores)
    np.testing.assert_array_equal(maps, seeds_maps(scores))
    np.testing.assert_allclose(saliency_map(maps, 224), seeds_saliency(scores, 224), **WITHIN)


def test_a_map_that_is_the_same_everywhere_has_no_saliency() -> None:
    np.testing.assert_array_equal(saliency_map(np.ones((2, 3, 3), np.float32), 48), 0)


def test_attention_of_another_shape_is_refused() -> None:
    for shape in ((1, 2, 1, 4), (2, 2, 1, 5), (1, 2, 2, 5)):
        with pytest.raises(ValueError, match="attention"):
            class_attention_maps(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="self-attention of shape"):
        patch_attention_maps(np.zeros((1, 2, 1, 4), np.float32), 0, 0)
    with pytest.raises(ValueError, match="patch 0,2: this model's rows and columns are 0 to 1"):
        patch_attention_maps(np.zeros((1, 2, 4, 4), np.float32), 0, 2)


def test_best_classes_of_few() -> None:
    assert best_classes(np.log(np.array([0.25, 0.75], np.float32)), 5) == [
        (1, pytest.approx(0.75)),
        (0, pytest.approx(0.25)),
    ]
