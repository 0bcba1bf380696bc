"""What the gate keeps of an image, beside all blocks of its attention: 1.8 GiB of the largest."""

import weakref

import numpy as np
import numpy.typing as npt
import pytest

from export.checkpoints.random_weights import random_tensors
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from pipelines.gate import prepared_image
from pipelines.gate.prepared_image import prepare_image
from tests.support.paths import DATA

Array = npt.NDArray[np.float32]


def test_a_block_is_freed_once_it_is_compared(
    tiny_config: CaiTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = (DATA / "photos" / "cat.jpg").read_bytes()
    tensors = random_tensors("cait_tiny_32", tiny_config)
    image = prepare_image("cat.jpg", encoded, True, tiny_config, tensors)
    found: list[tuple[int, Array]] = []
    forward(tensors, image.images, lambda block, array: found.append((block, array.copy())))
    there = [weakref.ref(array) for _, array in found]
    counts = []

    def compared(array: Array, expected: Array) -> float:
        counts.append(sum(reference() is not None for reference in there))
        return float(np.abs(array - expected).max())

    monkeypatch.setattr(prepared_image, "largest_difference", compared)
    blocks = tiny_config.sa_blocks
    assert blocks > 1
    assert image.self_attention_differences(found) == [0.0] * blocks
    assert counts == [*range(blocks, 0, -1)]
    assert found == []
