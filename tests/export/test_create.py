"""New models: how they begin, that they learn, and that they can be kept."""

import pathlib

import numpy as np
import pytest
import tf_keras

from export.create import create_cait
from export.errors import UserError
from export.model import build_classifier
from export.random_weights import seeded_normal
from export.variants import CaiTConfig


@pytest.fixture(scope="module")
def tiny() -> CaiTConfig:
    return CaiTConfig(32, 16, 16, 2, 2, num_classes=5)


def test_a_new_model_of_a_variant() -> None:
    tf_keras.utils.set_random_seed(1)
    model = create_cait("cait_xxs24_224", num_classes=5)
    assert model.name == "cait_xxs24_224"
    assert model.count_params() == 11_956_264 - 995 * 193
    assert model.output[0].shape == (None, 5)
    block = model.get_layer("sa_ffn_block_23")
    np.testing.assert_array_equal(
        block.get_layer("gamma_1").embeddings, np.full((1, 192), 1e-5, np.float32)
    )
    kernel = block.get_layer("attn_qkv").kernel.numpy()
    assert 0.0199 < kernel.std() < 0.0201
    assert not block.get_layer("attn_qkv").bias.numpy().any()


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
