"""Positions for another image size: the model's and the reference's are timm's."""

import dataclasses
import pathlib

import numpy as np
import pytest

from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.model import build_classifier
from export.positions import resample_positions, with_positions_for
from export.reference.forward_pass import forward
from export.reference.positions import resample
from export.weights import assign_weights
from tests.support.trees import TINY, TINY_VARIANT

GRIDS = ("14_18", "14_32", "24_14", "24_32", "28_24", "2_3", "3_7", "7_2", "1_3", "32_14")


@pytest.mark.parametrize("grids", GRIDS)
def test_positions_are_timm_s(grids: str, data: pathlib.Path) -> None:
    with np.load(data / "golden" / "positions.npz") as archive:
        assert set(archive) == set(GRIDS)
        wanted = archive[grids]
    before, after = map(int, grids.split("_"))
    positions = seeded_normal(f"positions {before}", (1, before * before, 5))
    # PyTorch computes the weights in float32.
    np.testing.assert_allclose(resample_positions(positions, after), wanted, rtol=0, atol=8e-6)
    found = resample(positions, after)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


def test_positions_of_the_same_grid_stay_what_they_are() -> None:
    positions = seeded_normal("positions", (1, 9, 4))
    assert resample_positions(positions, 3) is positions
    assert resample(positions, 3) is positions
    with pytest.raises(ValueError, match="10 positions do not form a square grid"):
        resample_positions(seeded_normal("positions", (1, 10, 4)), 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [48, 80])
def test_at_another_size_outputs_are_timm_s(size: int, data: pathlib.Path) -> None:
    tensors = random_tensors(TINY, TINY_VARIANT.config)
    with np.load(data / "golden" / "tiny_sizes.npz") as archive:
        logits, features = archive[f"{size}_logits"], archive[f"{size}_features"]
    images = seeded_normal(f"{TINY}:input {size}", (2, size, size, 3))

    config = dataclasses.replace(TINY_VARIANT.config, image_size=size)
    model = build_classifier(config, "tiny")
    assign_weights(model, config, with_positions_for(config, tensors))
    np.testing.assert_allclose(model(images)[0], logits, rtol=0, atol=1e-5)

    positions = resample(tensors["pos_embed"], size // 16)
    by_numpy = forward({**tensors, "pos_embed": positions}, images)
    np.testing.assert_allclose(by_numpy.features, features, rtol=0, atol=1e-5)
    assert by_numpy.logits is not None
    np.testing.assert_allclose(by_numpy.logits, logits, rtol=0, atol=1e-5)


def test_positions_that_fit_leave_a_checkpoint_s_tensors_lazy() -> None:
    class Unread(dict[str, object]):
        """A mapping of which only the positions may be read."""

        def __getitem__(self, key: str) -> object:
            assert key == "pos_embed"
            return super().__getitem__(key)

    tensors = Unread(pos_embed=np.zeros((1, 4, 32), np.float32), norm=None)
    assert with_positions_for(TINY_VARIANT.config, tensors) is tensors  # type: ignore[arg-type]
