"""New models: how they begin, that they learn, and that they can be kept."""

import dataclasses
import pathlib

import numpy as np
import pytest
import safetensors.numpy
import tf_keras

from export import create_cait
from export.checkpoints.random_weights import seeded_normal
from export.checkpoints.sources import checkpoint_source, open_checkpoint, write_random_checkpoint
from export.errors import UserError
from export.model import build_classifier
from export.reference import forward_pass as reference
from export.variants import VARIANTS, CaiTConfig, Variant, get_variant
from export.weights import read_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny() -> CaiTConfig:
    return CaiTConfig(32, 16, 16, 2, 2, num_classes=5)


def test_a_new_model_of_a_variant() -> None:
    tf_keras.utils.set_random_seed(1)
    model = create_cait("cait_xxs24_224", num_classes=5)
    assert model.name == "cait_xxs24_224"
    assert model.count_params() == 11_956_264 - 995 * 193
    assert model.output[0].shape == (None, 5)
    gamma = model.get_layer("sa_ffn_block_23_gamma_1").kernel
    np.testing.assert_array_equal(gamma, np.full((1, 192), 1e-5, np.float32))
    products = model.get_layer("sa_ffn_block_23_attn_qkv")
    assert 0.0199 < products.kernel.numpy().std() < 0.0201
    assert not products.bias.numpy().any()


def test_an_unknown_variant_and_an_impossible_number_are_refused() -> None:
    with pytest.raises(UserError, match="unknown variant 'cait_xs25_384'"):
        create_cait("cait_xs25_384")
    with pytest.raises(ValueError, match="num_classes is 0"):
        create_cait("cait_xxs24_224", num_classes=0)


def test_a_model_learns_32_images_by_heart(tiny: CaiTConfig) -> None:
    tf_keras.utils.set_random_seed(1)
    model = build_classifier(tiny, "tiny")
    images, classes = seeded_normal("by heart", (32, 32, 32, 3)), np.arange(32) % 5
    logits = tf_keras.Model(model.input, model.output[0])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits.compile(tf_keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    assert logits.evaluate(images, classes, verbose=0)[1] < 0.6
    logits.fit(images, classes, batch_size=32, epochs=80, verbose=0)
    assert logits.evaluate(images, classes, verbose=0)[1] == 1.0


@pytest.mark.parametrize("how", ["configuration", "file"])
def test_a_model_can_be_kept(how: str, tiny: CaiTConfig, tmp_path: pathlib.Path) -> None:
    model = build_classifier(tiny, "tiny")
    if how == "file":
        model.save(tmp_path / "tiny.keras")
        again = tf_keras.models.load_model(tmp_path / "tiny.keras")
    else:
        again = tf_keras.Model.from_config(model.get_config())
        again.set_weights(model.get_weights())
    images = seeded_normal("kept", (2, 32, 32, 3))
    for found, wanted in zip(
        again.predict(images, verbose=0)[1].values(),
        model.predict(images, verbose=0)[1].values(),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(again(images)[0], model(images)[0], rtol=0, atol=1e-6)


def test_weights_that_are_not_there_are_named_as_the_argument(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError) as refused:
        create_cait("cait_xxs24_224", checkpoints=f"{tmp_path}/none")
    line = str(refused.value)
    assert line.startswith(f"checkpoints='{tmp_path}/none': no file cait_xxs24_224.safetensors or ")
    assert "there, nor any other; expected" in line


def test_a_checkpoint_s_weights_are_taken(
    tiny: CaiTConfig, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf_keras.utils.set_random_seed(1)
    variant = Variant("tiny", tiny, 0, 0.0, 0.0, 0.0, "")
    monkeypatch.setitem(VARIANTS, "tiny", variant)
    write_random_checkpoint(variant, tmp_path / "tiny.safetensors")
    written = open_checkpoint(checkpoint_source(str(tmp_path)), variant, tmp_path).tensors()
    whole = create_cait("tiny", checkpoints=str(tmp_path))
    for key, value in read_weights(whole, variant.config).items():
        np.testing.assert_array_equal(value, written[key], err_msg=key)

    three = create_cait("tiny", 3, checkpoints=str(tmp_path), dropout_rate=0.1)
    config = dataclasses.replace(variant.config, num_classes=3)
    for key, value in read_weights(three, config).items():
        if key == "head.weight":
            assert 0.015 < value.std() < 0.025
        elif key == "head.bias":
            assert not value.any()
        else:
            np.testing.assert_array_equal(value, written[key], err_msg=key)


@pytest.mark.parametrize("size", [160, 288])
def test_at_another_size_outputs_are_timm_s(size: int, data: pathlib.Path) -> None:
    name = "cait_xxs24_224"
    with np.load(data / "golden" / "sizes.npz") as archive:
        golden = {
            key.partition("_")[2]: value
            for key, value in archive.items()
            if key.startswith(f"{size}_")
        }
    model = create_cait(name, image_size=size, checkpoints="random")
    weights = read_weights(model, dataclasses.replace(get_variant(name).config, image_size=size))
    resampled = weights["pos_embed"]
    np.testing.assert_allclose(resampled[:, :, :24], golden["pos_embed"], rtol=0, atol=1e-6)

    images = seeded_normal(f"{name}:input {size}", (2, size, size, 3))
    logits, _, attention = model(images)
    by_numpy = reference.forward(weights, images)
    assert by_numpy.logits is not None
    for found in (logits, by_numpy.logits):
        np.testing.assert_allclose(found, golden["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(by_numpy.features, golden["features"], rtol=0, atol=1e-5)
    for block in range(2):
        for found in (attention[f"ca_ffn_block_{block}_att"], by_numpy.class_attention[block]):
            np.testing.assert_allclose(found, golden[f"ca_{block}"], rtol=0, atol=1e-6)


def test_a_model_has_the_size_of_its_weights_if_no_other_is_asked_for(
    tiny: CaiTConfig, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = Variant("tiny", tiny, 0, 0.0, 0.0, 0.0, "")
    monkeypatch.setitem(VARIANTS, "tiny", variant)
    write_random_checkpoint(variant.at_size(48), tmp_path / "tiny.safetensors")
    assert create_cait("tiny", checkpoints=str(tmp_path)).input.shape == (None, 48, 48, 3)
    sized = create_cait("tiny", image_size=32, checkpoints=str(tmp_path))
    assert sized.input.shape == (None, 32, 32, 3)
    assert create_cait("tiny").input.shape == (None, 32, 32, 3)


def test_weights_without_a_head_get_a_new_one(
    tiny: CaiTConfig, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = Variant("tiny", tiny, 0, 0.0, 0.0, 0.0, "")
    monkeypatch.setitem(VARIANTS, "tiny", variant)
    headless = dataclasses.replace(variant, config=dataclasses.replace(tiny, num_classes=0))
    write_random_checkpoint(headless, tmp_path / "tiny.safetensors")
    with pytest.raises(UserError, match=r"no classification head; expected num_classes, for a new"):
        create_cait("tiny", checkpoints=str(tmp_path))
    model = create_cait("tiny", 3, checkpoints=str(tmp_path))
    found = read_weights(model, dataclasses.replace(tiny, num_classes=3))
    assert found["head.weight"].shape == (3, 16)
    assert not found["head.bias"].any()
    written = safetensors.numpy.load_file(tmp_path / "tiny.safetensors")
    for key, value in written.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_a_size_that_no_patches_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size 225 is not a multiple of patch_size 16"):
        create_cait("cait_xxs24_224", image_size=225)
