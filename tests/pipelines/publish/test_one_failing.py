"""A model that fails is refused, and only that one."""

import json

import numpy as np
import safetensors
import safetensors.numpy

import export.convert
from export.checkpoints.sources import write_random_checkpoint
from export.saved_model.writer import SavedModelWriter

TINY = "cait_tiny_32"


def report_of(result):
    models = json.loads((result.tree / "report.json").read_text())["models"]
    return {entry["model"]: entry for entry in models}


def test_run_publishes_both_heads_and_then_what_is_new(publish_tiny, tiny_variant, tmp_path):
    first = publish_tiny()
    assert first.status == 0, first.stderr
    # Other weights are another version.
    checkpoint = tmp_path / "weights" / f"{TINY}.safetensors"
    write_random_checkpoint(tiny_variant, checkpoint)
    with safetensors.safe_open(checkpoint, "numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(checkpoint)
    tensors["norm.bias"] = tensors["norm.bias"] + np.float32(0.5)
    safetensors.numpy.save_file(tensors, checkpoint, metadata)
    flags = ("--heads", "features", "--hub_publisher", "someone")
    second = publish_tiny(*flags, "--checkpoints", str(checkpoint.parent))
    assert second.status == 0, second.stderr
    versions = {
        path.name: sorted(version.name for version in path.iterdir())
        for path in (first.tree / "serving").iterdir()
        if path.is_dir()
    }
    assert versions == {TINY: ["1"], f"{TINY}_fe": ["1", "2"]}
    assert report_of(second)[f"{TINY}_fe"]["hub_handle"] == f"someone/{TINY}_fe/2"


def test_failing_model_is_absent_and_named_and_the_other_is_published(publish_tiny, monkeypatch):
    writer = SavedModelWriter

    def wrong_labels(classifier, config, labels, *others):
        return writer(classifier, config, labels[::-1], *others)

    monkeypatch.setattr(export.convert, "SavedModelWriter", wrong_labels)
    result = publish_tiny(anew=True)
    assert result.status == 1
    assert not (result.tree / "serving" / TINY).exists()
    assert (result.tree / "serving" / f"{TINY}_fe" / "1" / "saved_model.pb").is_file()
    assert not (result.tree / ".staging").exists()
    report = report_of(result)
    assert report[f"{TINY}_fe"]["failures"] == []
    (failure,) = report[TINY]["failures"]
    assert failure.startswith("classify: classes differs by 5 on ")
    assert failure.endswith("; at most 0 is allowed")
    assert "refused" in result.stdout
    assert f"refused: {TINY}: {failure}" in result.stderr


def test_conversion_that_fails_is_reported(publish_tiny, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SavedModelWriter, "write", broken)
    result = publish_tiny(anew=True)
    assert result.status == 1
    assert not (result.tree / "serving").exists()
    for entry in report_of(result).values():
        assert entry["failures"] == ["conversion failed: OSError: [Errno 5] Input/output error"]


def test_release_that_fails_leaves_no_version(publish_tiny, tmp_path):
    base = tmp_path / "tree" / "serving" / TINY
    base.parent.mkdir(parents=True)
    base.write_text("in the way")
    result = publish_tiny()
    assert result.status == 1
    assert base.read_text() == "in the way"
    assert report_of(result)[TINY]["failures"][0].startswith(
        "publishing failed: NotADirectoryError"
    )
    assert (result.tree / "serving" / f"{TINY}_fe" / "1").is_dir()


def test_undecodable_image_refuses_unless_allowed(publish_tiny, tmp_path, data):
    import tensorflow as tf

    photos = [(data / "photos" / name).read_bytes() for name in ("cat.jpg", "tiny.png")]
    path = tmp_path / "shard"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for encoded in (b"not an image", *photos):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
            features = tf.train.Features(feature={"image/encoded": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())

    flags = ("--sample_shard", str(path), "--heads", "features")
    refused = publish_tiny(*flags)
    assert refused.status == 1
    (failure,) = report_of(refused)[f"{TINY}_fe"]["failures"]
    assert failure.startswith("1 images of the sample cannot be decoded, such as shard#0: ")

    allowed = publish_tiny(*flags, "--max_bad_images", "1")
    assert allowed.status == 0, allowed.stderr
    entry = report_of(allowed)[f"{TINY}_fe"]
    assert entry["images"] == 2
    assert entry["attention_images"] == 2
    assert len(entry["bad_images"]) == 1
