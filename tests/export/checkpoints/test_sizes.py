"""Weights of another image size, and without a head: what is read, and what it is named."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy

from export.checkpoints.files import FileSource
from export.checkpoints.sizes import fit_to_size
from export.checkpoints.sources import Checkpoint, open_checkpoint
from export.errors import CheckpointError, UserError
from export.variants import VARIANTS, CaiTConfig, Variant
from tests.support.pth_file import Tensors, write_tensors

XXS24 = VARIANTS["cait_xxs24_224"]


@pytest.fixture
def variant(tiny_config: CaiTConfig) -> Variant:
    return Variant("tiny", tiny_config, 0, 0.0, 70.0, 90.0, "TINY.pth")


@pytest.fixture(params=["safetensors", "pth"])
def opened(
    request: pytest.FixtureRequest, variant: Variant, tmp_path: pathlib.Path
) -> Callable[[Tensors], Checkpoint]:
    """Writes tensors to a file of either format, and opens it."""

    def opened(tensors: Tensors) -> Checkpoint:
        if request.param == "safetensors":
            safetensors.numpy.save_file(tensors, tmp_path / "tiny.safetensors")
        else:
            write_tensors(tmp_path / "TINY.pth", tensors)
        return open_checkpoint(FileSource(str(tmp_path)), variant, tmp_path)

    return opened


def of_size(size: int) -> Checkpoint:
    return Checkpoint("weights", "weights", "0", True, image_size=size)


def without_head(tensors: Tensors) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("head.")}


@pytest.mark.parametrize("side", [1, 3, 32])
def test_the_size_is_that_of_the_positions(
    side: int, opened: Callable[[Tensors], Checkpoint], tiny_tensors: Tensors
) -> None:
    positions = np.ones((1, side * side, 16), np.float32)
    checkpoint = opened({**tiny_tensors, "pos_embed": positions})
    assert (checkpoint.image_size, checkpoint.num_classes) == (16 * side, 10)
    assert checkpoint.tensors().shapes["pos_embed"] == positions.shape


@pytest.mark.parametrize("count", [0, 5, 12])
def test_positions_of_no_square_are_refused(
    count: int, opened: Callable[[Tensors], Checkpoint], tiny_tensors: Tensors
) -> None:
    with pytest.raises(CheckpointError) as caught:
        opened({**tiny_tensors, "pos_embed": np.ones((1, count, 16), np.float32)})
    assert str(caught.value).endswith(
        f"for tiny: tensor 'pos_embed' has shape (1, {count}, 16); expected a position for each "
        "patch of a square image, such as 4 for 32 pixels"
    )


@pytest.mark.parametrize("shape", [(1, 9, 17), (9, 16), (2, 4, 16)])
def test_positions_of_another_shape_are_refused(
    shape: tuple[int, ...], opened: Callable[[Tensors], Checkpoint], tiny_tensors: Tensors
) -> None:
    with pytest.raises(CheckpointError, match=r"tensor 'pos_embed' has shape \(.*; expected \(1, "):
        opened({**tiny_tensors, "pos_embed": np.ones(shape, np.float32)})


def test_weights_may_have_no_head(
    opened: Callable[[Tensors], Checkpoint], tiny_tensors: Tensors
) -> None:
    checkpoint = opened(without_head(tiny_tensors))
    assert (checkpoint.num_classes, checkpoint.notes[-1]) == (0, "no classification head")


def test_half_a_head_is_refused(
    opened: Callable[[Tensors], Checkpoint], tiny_tensors: Tensors
) -> None:
    half = {key: tensor for key, tensor in tiny_tensors.items() if key != "head.weight"}
    with pytest.raises(CheckpointError, match=r"missing tensor 'head.weight'"):
        opened(half)


def test_a_variant_at_its_own_size_is_itself() -> None:
    assert fit_to_size(XXS24, of_size(224)) == (XXS24, ())
    assert fit_to_size(XXS24, of_size(224), 224)[0] is XXS24


@pytest.mark.parametrize("asked", [None, 288])
def test_a_variant_of_another_size_is_named_after_it(asked: int | None) -> None:
    sized, notes = fit_to_size(XXS24, of_size(288), asked)
    assert (sized.name, sized.config.image_size) == ("cait_xxs24_288", 288)
    assert sized.model_name("features") == "cait_xxs24_288_fe"
    assert dataclasses.replace(sized.config, image_size=224) == XXS24.config
    assert sized.origin is XXS24
    # What is published was measured at 224 pixels.
    assert (sized.top1, sized.top5) == (0.0, 0.0)
    assert sized.parameters == XXS24.parameters + (18 * 18 - 14 * 14) * 192
    assert XXS24.flops_g < sized.flops_g < 2 * XXS24.flops_g
    assert notes == ("for images of 288 pixels, not 224 as cait_xxs24_224's",)


def test_a_name_without_a_size_gets_one(variant: Variant) -> None:
    assert fit_to_size(variant, of_size(48))[0].name == "tiny_48"


def test_positions_that_are_resampled_are_told() -> None:
    sized, notes = fit_to_size(XXS24, of_size(224), 288)
    assert sized.name == "cait_xxs24_288"
    assert notes[0] == "positions of images of 224 pixels resampled for 288"
    # Back to the variant's size: its name, but not the figures of its weights.
    sized, notes = fit_to_size(XXS24, of_size(288), 224)
    assert (sized.name, sized.top1, sized.origin) == ("cait_xxs24_224", 0.0, XXS24)
    assert notes == ("positions of images of 288 pixels resampled for 224",)


def test_the_name_of_another_variant_is_never_taken() -> None:
    with pytest.raises(CheckpointError) as caught:
        fit_to_size(VARIANTS["cait_xxs24_384"], of_size(224))
    assert str(caught.value) == (
        "checkpoint weights for cait_xxs24_384: its positions are of images of 224 pixels, as "
        "those of cait_xxs24_224; expected --variants cait_xxs24_224, or --image_size 384 to "
        "resample them"
    )
    with pytest.raises(UserError) as refused:
        fit_to_size(XXS24, of_size(224), 384)
    assert str(refused.value) == (
        "--image_size 384: cait_xxs24_224 of that size is cait_xxs24_384, another variant; "
        "expected --variants cait_xxs24_384"
    )
    # Of the variants with these blocks there is none of 448 pixels.
    assert fit_to_size(XXS24, of_size(448))[0].name == "cait_xxs24_448"


@pytest.mark.parametrize(
    ("size", "near"), [(225, "224 or 240"), (8, "16 or 32"), (0, "16 or 32"), (-16, "16 or 32")]
)
def test_a_size_that_no_patches_fill_is_refused(size: int, near: str) -> None:
    with pytest.raises(UserError) as caught:
        fit_to_size(XXS24, of_size(224), size)
    assert str(caught.value) == (
        f"--image_size {size}: cait_xxs24_224 needs a multiple of 16, the size of its patches; "
        f"expected {near}"
    )


def test_a_size_that_nothing_can_run_is_refused() -> None:
    assert fit_to_size(XXS24, of_size(224), 1024)[0].name == "cait_xxs24_1024"
    with pytest.raises(UserError, match=r"--image_size 1040: .* expected at most 1024"):
        fit_to_size(XXS24, of_size(224), 1040)


def test_a_hub_s_folder_may_be_of_the_same_network_at_another_size(tmp_path: pathlib.Path) -> None:
    """Fine-tuned at 384 pixels, timm keeps the name of what it began with."""
    (tmp_path / "config.json").write_text('{"architecture": "cait_xxs24_224"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    source = FileSource(str(tmp_path))
    path, _ = source.locate(VARIANTS["cait_xxs24_384"], tmp_path)
    assert path == tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"is of 'cait_xxs24_224'; expected 'cait_xxs36_384'"):
        source.locate(VARIANTS["cait_xxs36_384"], tmp_path)
