"""Keras models as checkpoints: whole, in other models, and what a checkpoint cannot hold."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras
from tf_keras import layers

from export import create_cait, save_checkpoint
from export.checkpoints.files import FileSource
from export.checkpoints.random_weights import seeded_normal
from export.checkpoints.sources import open_checkpoint
from export.errors import UserError
from export.model import build_classifier, features_of
from export.reference.forward_pass import forward
from export.variants import VARIANTS, CaiTConfig, Variant
from signatures import Head
from tests.support.arrays import Tensors

pytestmark = pytest.mark.slow

IMAGES = seeded_normal("save", (2, 32, 32, 3))
Models = dict[Head, pathlib.Path]


@pytest.fixture(autouse=True)
def variant(tiny_config: CaiTConfig, monkeypatch: pytest.MonkeyPatch) -> Variant:
    """The tiny model's, beside the ten."""
    tiny = Variant("tiny", tiny_config, 0, 0.0, 0.0, 0.0, "")
    monkeypatch.setitem(VARIANTS, "tiny", tiny)
    return tiny


@pytest.fixture(scope="module")
def three(tiny_config: CaiTConfig) -> tf_keras.Model:
    return build_classifier(dataclasses.replace(tiny_config, num_classes=3), "tiny")


def loaded(models: Models, head: Head) -> tf_keras.Model:
    return tf_keras.models.load_model(models[head], compile=False)


def hub_layer(models: Models, head: Head) -> Any:
    flags = {"return_attention": False}
    return hub.KerasLayer(str(models[head]), trainable=True, arguments=flags)


def created(models: Models) -> tf_keras.Model:
    return create_cait("tiny", 3)


def logits_of_created(models: Models) -> tf_keras.Model:
    cait = create_cait("tiny", 3)
    return tf_keras.Model(cait.input, tf.nn.softmax(cait.output[0]))


def classifier(models: Models) -> tf_keras.Model:
    return loaded(models, "classifier")


def new_head(models: Models) -> tf_keras.Model:
    cait = loaded(models, "features")
    return tf_keras.Model(cait.input, layers.Dense(3)(layers.Dropout(0.5)(cait.output[0])))


def nested(models: Models) -> tf_keras.Model:
    """Within another model, behind other preprocessing."""
    photos = tf_keras.Input((64, 64, 3))
    features, _, _ = loaded(models, "features")(layers.Resizing(32, 32)(photos))
    return tf_keras.Model(photos, layers.Dense(3, activation="softmax", use_bias=False)(features))


def of_hub(models: Models) -> tf_keras.Model:
    shape = layers.InputLayer((32, 32, 3))
    return tf_keras.Sequential([shape, hub_layer(models, "features"), layers.Dense(3)])


def of_hub_with_head(models: Models) -> tf_keras.Model:
    return tf_keras.Sequential([layers.InputLayer((32, 32, 3)), hub_layer(models, "classifier")])


CLASSIFIERS = (
    *(created, logits_of_created, classifier, new_head, nested, of_hub, of_hub_with_head),
)


def read(directory: pathlib.Path, variant: Variant) -> Tensors:
    """The tensors, as the publish job finds them in a directory."""
    source = FileSource(str(directory))
    assert source.architecture() == variant
    tensors = open_checkpoint(source, variant, directory / "none").tensors()
    return {key: tensors[key] for key in tensors}


@pytest.mark.parametrize("make", CLASSIFIERS, ids=lambda make: make.__name__)
def test_a_checkpoint_has_the_model_s_weights_and_gives_its_answers(
    make: Callable[[Models], tf_keras.Model],
    tiny_models: Models,
    variant: Variant,
    tmp_path: pathlib.Path,
) -> None:
    model = make(tiny_models)
    # As training does, every weight, also those that were loaded.
    for number, weight in enumerate(model.trainable_weights):
        weight.assign_add(0.05 * seeded_normal(f"step {number}", tuple(weight.shape)))
    found = save_checkpoint(model, tmp_path / "a" / "b")
    tensors = read(found, variant)
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    # Bit for bit, and each once, whatever layout they are in.
    by_bytes = sorted(np.sort(weight.numpy(), axis=None).tobytes() for weight in model.weights)
    if make is nested:
        by_bytes = sorted([*by_bytes, bytes(3 * 4)])
    assert by_bytes == sorted(np.sort(t, axis=None).tobytes() for t in tensors.values())
    logits = np.asarray(forward(tensors, IMAGES).logits)
    photos = IMAGES if make is not nested else tf.repeat(tf.repeat(IMAGES, 2, 1), 2, 2)
    answers = model(photos)
    answers = np.asarray(answers[0] if isinstance(answers, tuple | list) else answers)
    if make in (nested, logits_of_created):
        logits = np.asarray(tf.nn.softmax(logits))
    np.testing.assert_allclose(answers, logits, rtol=0, atol=1e-4)


def test_features_without_a_head(
    tiny_models: Models, variant: Variant, tmp_path: pathlib.Path, tiny_tensors: Tensors
) -> None:
    for model in (
        loaded(tiny_models, "features"),
        features_of(create_cait("tiny", 3), "tiny_fe"),
        tf_keras.Sequential([layers.InputLayer((32, 32, 3)), hub_layer(tiny_models, "features")]),
    ):
        tensors = read(save_checkpoint(model, tmp_path), variant)
        assert tensors.keys() == tiny_tensors.keys() - {"head.weight", "head.bias"}
        assert json.loads((tmp_path / "config.json").read_text())["num_classes"] == 0


def test_another_image_size_is_that_of_the_positions(
    variant: Variant, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = dataclasses.replace(variant.config, image_size=64)
    tiny_64 = dataclasses.replace(variant, name="tiny_64", config=larger)
    monkeypatch.setitem(VARIANTS, "tiny_64", tiny_64)
    for size, name in ((48, "tiny"), (64, "tiny_64")):
        config = dataclasses.replace(variant.config, image_size=size)
        # Of a size that is no variant's the model's name says which one it is.
        save_checkpoint(build_classifier(config, "tiny" if size == 48 else "my_own"), tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name
        source = FileSource(str(tmp_path))
        assert open_checkpoint(source, VARIANTS[name], tmp_path).image_size == size


def test_names_of_classes_go_with_the_weights_and_replace_earlier_ones(
    three: tf_keras.Model,
    tmp_path: pathlib.Path,
) -> None:
    names = ["a cat", "Élan", "dog, hound"]
    assert save_checkpoint(three, str(tmp_path), names) == tmp_path
    assert (tmp_path / "labels.txt").read_bytes() == "a cat\nÉlan\ndog, hound\n".encode()
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o644] * 3
    save_checkpoint(three, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "2 class_names; the model has 3 classes"),
        (["a", "b", "a"], "class name 'a' is there twice"),
        (["a", "b", ""], "class name ''; expected a line"),
        ("abc", "class_names is the text 'abc'; expected a name for each class"),
        (["a", "b", "c\nd"], "expected a line without spaces around it"),
        (["a", "b", " c"], "expected a line without spaces around it"),
    ],
)
def test_wrong_names_leave_what_is_there(
    names: list[str] | str, message: str, three: tf_keras.Model, tmp_path: pathlib.Path
) -> None:
    save_checkpoint(three, tmp_path, ["x", "y", "z"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        save_checkpoint(three, tmp_path, names)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_with_other_weights_is_refused(
    three: tf_keras.Model, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cait_xxs24_224.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match=r"cait_xxs24_224\.safetensors: another file of weights"):
        save_checkpoint(three, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cait_xxs24_224.safetensors"]


@pytest.fixture(scope="module")
def built(tiny_config: CaiTConfig) -> tuple[tf_keras.Model, tf_keras.Model]:
    """A feature extractor and a classifier, which share nothing."""
    features, classifier = (build_classifier(tiny_config, "tiny") for _ in range(2))
    return features_of(features, "tiny_fe"), classifier


class Subclassed(tf_keras.Model):
    def __init__(self, cait: tf_keras.Model) -> None:
        super().__init__()
        self.cait = cait
        self.new = layers.Dense(3)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.new(self.cait(images)[0])


def subclassed(cait: tf_keras.Model) -> tf_keras.Model:
    model = Subclassed(cait)
    model(IMAGES)
    return model


def then(cait: tf_keras.Model, *more: layers.Layer) -> tf_keras.Model:
    """A model with more layers behind the first output."""
    out = cait.output[0]
    for layer in more:
        out = layer(out)
    return tf_keras.Model(cait.input, out)


def twins(*models: tf_keras.Model) -> tf_keras.Model:
    images = tf_keras.Input((32, 32, 3))
    return tf_keras.Model(images, [model(images)[0] for model in models])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f, c: tf_keras.Sequential([layers.Dense(3, input_shape=(4,))]), "it has no CaiTs;"),
        (twins, "it has 2 CaiTs;"),
        (
            lambda f, c: then(f, layers.Dense(8, "relu"), layers.Dense(3, name="out")),
            r"of '.*' \(Dense\), 'out' \(Dense\); expected at most a Dense layer from its 16",
        ),
        (lambda f, c: then(f, layers.Dense(3, "relu")), "is relu; expected linear or softmax"),
        (
            lambda f, c: then(f, layers.ReLU(name="cut"), layers.Dense(3)),
            r"'cut' \(ReLU\) is between the features and",
        ),
        (
            lambda f, c: then(f, layers.BatchNormalization(name="scaled")),
            r"of 'scaled' \(BatchNormalization\); expected at most",
        ),
        (
            lambda f, c: then(c, layers.Dense(3, name="more")),
            r"of 'more' \(Dense\), beside the CaiT's own head",
        ),
        (
            lambda f, c: tf_keras.Model(f.input, f.get_layer("sa_ffn_block_1").output),
            "it has no CaiTs;",
        ),
        (
            lambda f, c: tf_keras.Model(f.input, f.get_layer("ca_ffn_block_0").output),
            "a part of a CaiT, with 2 self-attention and 1 class-attention blocks",
        ),
        (
            # Its layers have no weights yet that could be lost.
            lambda f, c: tf_keras.Sequential([Subclassed(f), layers.Dense(3)]),
            "it has not been built; expected one that was fitted, or called on images",
        ),
        (lambda f, c: subclassed(f), "nothing says what .* is called with"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_named(
    make: Callable[..., tf_keras.Model],
    message: str,
    built: tuple[tf_keras.Model, tf_keras.Model],
    tmp_path: pathlib.Path,
) -> None:
    model = make(*built)
    with pytest.raises(UserError, match=message) as refused:
        save_checkpoint(model, tmp_path / "new")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()
