"""Weights that were trained for classes of one's own, with or without names for them."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import pytest
import safetensors.numpy
import tensorflow as tf
import tf_keras

from export import create_cait, save_checkpoint
from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.variants import Variant
from export.weights import read_weights
from pipelines.publish.class_names import read_labels
from pipelines.verify import main as verify
from serving_configs.server.models_config import models_config_path, read_models_config
from tests.support.hub_validator import problems
from tests.support.labelled_records import write_shard, write_two
from tests.support.readme import lines, words
from tests.support.trees import TINY

PETS = ("Abyssinian", "Birman, long-haired", "Sphynx", "Élan")
EDITED = b"\xef\xbb\xbf" + "\r\n".join(PETS).encode() + b"\r\n\r\n"
"""Their file, as an editor on Windows writes it."""


@pytest.fixture
def weights(tiny_variant: Variant, tmp_path: pathlib.Path) -> str:
    """A directory with the tiny variant's weights, with a head of four classes."""
    config = dataclasses.replace(tiny_variant.config, num_classes=len(PETS))
    tensors = random_tensors(TINY, config)
    (tmp_path / "weights").mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / "weights" / f"{TINY}.safetensors")
    return str(tmp_path / "weights")


@pytest.fixture
def labels(tmp_path: pathlib.Path) -> Callable[..., str]:
    def write(content: str | bytes = "\n".join(PETS)) -> str:
        path = tmp_path / "labels.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def classes_of(tree: pathlib.Path, data: pathlib.Path, model_name: str = TINY) -> list[str]:
    """What `classify` answers for a photograph, sorted."""
    model = tf.saved_model.load(str(tree / "serving" / model_name / "1"))
    feature = tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[(data / "photos" / "cat.jpg").read_bytes()])
    )
    example = tf.train.Example(
        features=tf.train.Features(feature={"image/encoded": feature})
    ).SerializeToString()
    (found,) = model.signatures["classify"](inputs=tf.constant([example]))["classes"].numpy()
    return sorted(name.decode() for name in found)


def test_models_have_a_name_and_classes_of_one_s_own(
    publish_tiny, tiny_variant, weights, labels, data, tmp_path, monkeypatch
):
    """From a Keras model to a published one, whose weights are the same bit for bit."""
    trained = create_cait(TINY, checkpoints=weights)
    trained.get_layer("norm").gamma.assign_add(0.01 * seeded_normal("trained", (32,)))
    saved = str(save_checkpoint(trained, tmp_path / "saved", PETS))
    # Ends of lines and a mark of the order of bytes are not part of a name.
    names = pathlib.Path(saved, "labels.txt")
    assert names.read_text(encoding="utf-8").split("\n") == [*PETS, ""]
    names.write_bytes(EDITED)
    # The page's command, with paths of this test.
    (command,) = (words(line) for line in lines() if "--model_name" in words(line))
    assert (command[3:5], command[7]) == (["--checkpoints", "pets"], "--sample_shard")
    flags = ("--checkpoints", saved, *command[5:7])
    sample = ("--sample_shard", write_two(tmp_path / "sample"))
    result = publish_tiny(*flags, *sample, without=("--variants",))
    assert result.status == 0, result.stderr
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes[:2] == [
        f"note: --checkpoints {saved}: weights of {TINY}",
        f"note: {saved}/labels.txt: names of 4 classes",
    ]
    config = dataclasses.replace(tiny_variant.config, num_classes=len(PETS))
    loaded = tf_keras.models.load_model(result.tree / "serving" / "pets" / "1", compile=False)
    expected = read_weights(trained, config)
    found = read_weights(loaded, config)
    assert {key: tensor.tobytes() for key, tensor in found.items()} == {
        key: tensor.tobytes() for key, tensor in expected.items()
    }
    assert classes_of(result.tree, data, "pets") == sorted(PETS)
    assert_named(result.tree, "pets", "pets_fe")
    assert verify([str(result.tree)]) == 0
    for model in ("pets", "pets_fe"):
        directory = result.tree / "serving" / model / "1"
        manifest = json.loads((directory / "assets.extra" / "manifest.json").read_text())
        assert manifest["geometry"]["num_classes"] == 4
        assert (manifest["model"], manifest["variant"]) == (model, TINY)
        assert tuple(manifest["labels"]) == PETS
        names = directory / "assets.extra" / "labels.txt"
        assert names.exists() == (model == "pets")
        assert not names.exists() or tuple(names.read_text().splitlines()) == PETS
        # The accuracy that is published is of a thousand other classes.
        assert manifest["published"] is None
        page = (result.tree / "hub" / "docs" / "cait" / model / "1.md").read_text()
        assert "magenet" not in page.partition("## Input")[0]
        assert "No figures are published." in page
        other = {"pets": "pets_fe", "pets_fe": "pets"}[model]
        assert f"[{other}](../{other}/1.md)" in page
    assert_keeps_other_weights_out(publish_tiny, flags, labels, monkeypatch)


def assert_named(tree: pathlib.Path, *models: str) -> None:
    """Holds everything around models to their names."""

    def found(pattern: str) -> set[str]:
        return {path.relative_to(tree).as_posix() for path in tree.glob(pattern)}

    assert found("serving/*/1") == {f"serving/{model}/1" for model in models}
    assert found("hub/cait/*/1.tar.gz") == {f"hub/cait/{model}/1.tar.gz" for model in models}
    config = read_models_config(models_config_path(str(tree)))
    assert {model.name for model in config.model_config_list.config} == set(models)
    assert {model.base_path for model in config.model_config_list.config} == {
        str(tree / "serving" / model) for model in models
    }
    collection = (tree / "hub/docs/cait/collections/cait/1.md").read_text()
    for model in models:
        page = tree / f"hub/docs/cait/{model}/1.md"
        assert page.read_text().startswith(f"# Module cait/{model}/1\n")
        assert problems(tree / "hub/docs", page) == []
        slug = model.replace("_", "-")
        assert (tree / f"hub/kaggle/cait/{slug}/model-instance-metadata.json").is_file()
        pods = (tree / f"deployment/kubernetes/{model}.yaml").read_text()
        assert f"\n  name: {slug}\n" in pods
        assert f"path: /v1/models/{model}/labels/stable/metadata" in pods
        assert f"[{model}](../../{model}/1.md)" in collection
    assert "| `pets`, CaiT-TINY | 32 |" in collection
    report = (tree / "report.md").read_text()
    assert all(f"\n## {model}\n" in report for model in models)


def assert_keeps_other_weights_out(publish_tiny, flags, labels, monkeypatch) -> None:
    """Holds the job to refusing, before it converts, what is no version of a published model."""
    monkeypatch.setattr("pipelines.publish.command._run_pipeline", lambda *_: pytest.fail("begun"))
    renamed = labels("\n".join(PETS[::-1]))
    for wrong, difference in (
        (("--labels", renamed), "has class 0 'Abyssinian', the weights have 'Élan';"),
        (("--image_size", "48"), "has images of 32 pixels, the weights have images of 48;"),
        (("--checkpoints", "random", "--allow_untrained"), "has 4 classes, the weights have 1000;"),
    ):
        given = flags[2:] if "random" in wrong else flags
        result = publish_tiny(*given, *wrong)
        assert (result.status, result.stdout) == (2, "")
        line = result.stderr.splitlines()[-1]
        assert line.startswith(f"error: {result.tree}/serving/pets/1 {difference}")
        assert line.endswith("publish them with --model_name and a name of their own")
        assert not (result.tree / ".staging").exists()


def test_names_beside_weights_of_other_classes_are_refused(publish_tiny, weights):
    path = pathlib.Path(weights, "labels.txt")
    path.write_text("a\nb\n")
    result = publish_tiny("--checkpoints", weights)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"error: {path}: 2 names; {weights}/{TINY}")
    assert not result.tree.exists()


def test_weights_of_an_unknown_architecture_are_refused(publish_tiny, weights):
    pathlib.Path(weights, "config.json").write_text('{"architecture": "resnet50.a1_in1k"}')
    result = publish_tiny("--checkpoints", weights, without=("--variants",))
    assert (result.status, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: --checkpoints {weights}: weights of 'resnet50'; expected ")
    assert not result.tree.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_name", "My Pets"), "--model_name My Pets: has ' ' 'M' 'P'; expected 3 to 47"),
        (("--model_name", "cait-s24-288"), "the name of the variant cait_s24_288;"),
        (("--model_name", "xxs24_224"), "the name of the variant cait_xxs24_224;"),
        (("--variants", "all", "--model_name", "pets"), "11 variants are asked for;"),
        (
            ("--model_name", "pets", "--accuracy_gate", "on"),
            "no accuracy is published of pets; expected --accuracy_gate off",
        ),
    ],
)
def test_a_wrong_name_is_refused(publish_tiny, data, tmp_path, flags, message):
    cat = (data / "photos" / "cat.jpg").read_bytes()
    write_shard(tmp_path / "sample", [(cat, 1), (cat, 2)])
    result = publish_tiny(*flags, "--sample_shard", str(tmp_path / "sample"))
    assert (result.status, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not result.tree.exists()


def test_without_a_file_classes_are_numbers(publish_tiny, weights, data, tmp_path):
    flags = ("--heads", "classifier", "--sample_shard", write_two(tmp_path / "sample"))
    result = publish_tiny("--checkpoints", weights, *flags)
    assert result.status == 0, result.stderr
    assert classes_of(result.tree, data) == ["0", "1", "2", "3"]


def test_a_file_that_is_named_is_read_as_one_beside_the_weights(labels):
    assert read_labels(pathlib.Path(labels(EDITED))) == PETS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\nc", "3 names; "),
        ("a\nb\n\nd", "line 3 is empty; expected a class on each"),
        ("a\nb\nc\nb", "'b' is on lines 2 and 4; expected names that tell the classes apart"),
        ("", "line 1 is empty; expected a class on each"),
        (b"a\xff", "byte 1 is not UTF-8; expected a text file"),
    ],
)
def test_a_wrong_file_is_refused(publish_tiny, weights, labels, content, message):
    file = labels(content)
    result = publish_tiny("--checkpoints", weights, "--labels", file)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: --labels {file}: {message}")
    assert result.stderr.count("\n") == 1
    assert not result.tree.exists()


def test_a_file_that_is_not_there_is_refused(publish_tiny, weights, tmp_path):
    result = publish_tiny("--checkpoints", weights, "--labels", str(tmp_path / "none.txt"))
    assert result.status == 2
    assert result.stderr == (
        f"error: --labels {tmp_path}/none.txt: cannot be read (No such file or directory)\n"
    )


def test_weights_of_other_classes_have_no_published_accuracy(publish_tiny, weights, data, tmp_path):
    cat = (data / "photos" / "cat.jpg").read_bytes()
    write_shard(tmp_path / "sample", [(cat, 1), (cat, 2)])
    flags = ("--sample_shard", str(tmp_path / "sample"), "--accuracy_gate", "on")
    result = publish_tiny("--checkpoints", weights, *flags)
    assert result.status == 2
    assert result.stderr.startswith(
        f"error: --accuracy_gate on: {weights}/{TINY}.safetensors has 4 classes; the published "
        f"accuracy of {TINY} is of 1000"
    )
    assert not result.tree.exists()
