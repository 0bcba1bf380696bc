"""Architectures of one's own, as timm's arguments describe them."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from export import CaiTConfig, CheckpointError, create_cait, save_checkpoint
from export.architecture import is_own, own_variant, timm_arguments, variant_of
from export.checkpoints.files import FileSource
from export.checkpoints.random_weights import seeded_normal
from export.checkpoints.sources import open_checkpoint
from export.reference.forward_pass import forward
from export.variants import VARIANTS
from export.weights import read_weights

OWN = CaiTConfig(48, 8, 12, 3, 2, ca_blocks=1, num_classes=5)
ARGUMENTS = {
    "img_size": 48,
    "patch_size": 8,
    "embed_dim": 12,
    "num_heads": 3,
    "depth": 2,
    "depth_token_only": 1,
}


def test_timm_s_arguments_give_every_size() -> None:
    variant = variant_of("cait_s24_224", ARGUMENTS)
    assert (variant.name, is_own(variant)) == ("cait_2x12_48", True)
    of_weights = dataclasses.replace(variant.config, num_classes=5, layer_scale_init=1e-5)
    assert of_weights == OWN
    assert not variant.top1
    assert timm_arguments(variant) == {"architecture": "cait_xxs24_224", "model_args": ARGUMENTS}
    # Images as pairs, and what makes no other model.
    same = {**ARGUMENTS, "img_size": [48, 48], "mlp_ratio": 4.0, "qkv_bias": True, "in_chans": 3}
    assert variant_of("cait_s24_224", {**same, "drop_path_rate": 0.1, "num_classes": 5}) == variant
    # What is not said is the variant's.
    config = variant_of("cait_s24_224", {"depth": 3}).config
    assert config == dataclasses.replace(VARIANTS["cait_s24_224"].config, sa_blocks=3)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("cait_xxs24_224", {}, "cait_xxs24_224"),
        ("cait_xxs24_224", {"img_size": 384}, "cait_xxs24_384"),
        # Of a size that is no variant's; the positions tell it.
        ("cait_xxs24_384", {"img_size": 288}, "cait_xxs24_384"),
        ("cait_xxs24_224", {"depth": 36}, "cait_xxs36_224"),
    ],
)
def test_arguments_that_make_a_variant(name: str, arguments: dict[str, Any], expected: str) -> None:
    variant = variant_of(name, arguments)
    assert variant is VARIANTS[expected]
    assert not is_own(variant.at_size(96))
    assert timm_arguments(variant) == {"architecture": expected}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": "4"}, "depth is '4'; expected a whole number"),
        ({"depth": True}, "depth is True; expected a whole number"),
        ({"depth": 0}, "sa_blocks is 0; it has to be at least 1"),
        ({"img_size": [48, 64]}, r"img_size is \[48, 64\]; expected a whole number"),
        ({"img_size": 100}, "image_size 100 is not a multiple of patch_size 16"),
        ({"patch_size": 1}, "img_size 224 has 50176 patches of 1 pixels; expected at most 4096"),
        ({"num_heads": 5}, "embed_dim 192 is not a multiple of heads 5"),
        ({"mlp_ratio": 3.0}, r"mlp_ratio is 3\.0; expected 4"),
        ({"global_pool": "avg"}, "global_pool is 'avg'; expected 'token'"),
        ({"attn_block": "x"}, "attn_block is unknown; expected one of img_size, patch_size"),
    ],
)
def test_arguments_that_make_no_cait_are_named(
    arguments: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        variant_of("cait_xxs24_224", arguments)
    (tmp_path / "model.safetensors").touch()
    config = {"architecture": "cait_xxs24_224", "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"config\.json: model_args: {message}") as refused:
        FileSource(str(tmp_path)).architecture()
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_model_of_one_s_own_is_saved_and_read(tmp_path: pathlib.Path) -> None:
    model = create_cait(OWN)
    for number, weight in enumerate(model.trainable_weights):
        weight.assign_add(0.1 * seeded_normal(f"step {number}", tuple(weight.shape)))
    save_checkpoint(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "architecture": "cait_xxs24_224",
        "model_args": ARGUMENTS,
        "num_classes": 5,
    }
    source = FileSource(str(tmp_path))
    variant = source.architecture()
    assert variant == own_variant(dataclasses.replace(OWN, num_classes=1000))
    checkpoint = open_checkpoint(source, variant, tmp_path)
    assert (checkpoint.num_classes, checkpoint.image_size) == (5, 48)
    # The reference reads its sizes from the weights: it is the same function.
    images = seeded_normal("own", (2, 48, 48, 3))
    tensors = checkpoint.tensors()
    logits = forward({key: tensors[key] for key in tensors}, images).logits
    assert logits is not None
    np.testing.assert_allclose(model(images)[0], logits, rtol=0, atol=1e-4)
    again = create_cait(OWN, checkpoints=str(tmp_path))
    for key, value in read_weights(again, OWN).items():
        np.testing.assert_array_equal(value, tensors[key], err_msg=key)


def test_weights_of_one_s_own_architecture_are_no_variant_s(tmp_path: pathlib.Path) -> None:
    save_checkpoint(create_cait(OWN), tmp_path)
    source = FileSource(str(tmp_path))
    with pytest.raises(
        CheckpointError,
        match=r"config\.json is of 'cait_xxs24_224' with model_args of its own; expected "
        "'cait_s24_224', or no --variants, but --model_name",
    ):
        open_checkpoint(source, VARIANTS["cait_s24_224"], tmp_path)
    other = own_variant(dataclasses.replace(OWN, embed_dim=24))
    with pytest.raises(CheckpointError, match=r"with model_args of its own; expected 'cait_2x24_4"):
        open_checkpoint(source, other, tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "cait_xxs24_224", "model_args": [4]}')
    with pytest.raises(CheckpointError, match=r"cannot be read \(model_args is no object\)"):
        source.architecture()
