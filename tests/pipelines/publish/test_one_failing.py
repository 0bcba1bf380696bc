"""A model that fails is refused, and only that one."""

import json
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import export.convert
from export.checkpoints.sources import Checkpoint, write_random_checkpoint
from export.saved_model.writer import SavedModelWriter
from pipelines.elements import ShardResult, StagedModel
from pipelines.publish.decision import judge
from pipelines.publish.options import parse
from tests.support.labelled_records import write_shard, write_two

TINY = "cait_tiny_32"


def report_of(result):
    models = json.loads((result.tree / "report.json").read_text())["models"]
    return {entry["model"]: entry for entry in models}


@pytest.fixture
def sample(tmp_path):
    return ("--sample_shard", write_two(tmp_path / "sample"))


def test_run_publishes_beside_both_heads_what_is_new(
    publish_tiny, tiny_variant, tiny_tree, sample, tmp_path
):
    tree = shutil.copytree(tiny_tree, tmp_path / "tree")
    # Other weights are another version.
    checkpoint = tmp_path / "weights" / f"{TINY}.safetensors"
    write_random_checkpoint(tiny_variant, checkpoint)
    with safetensors.safe_open(checkpoint, "numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(checkpoint)
    tensors["norm.bias"] = tensors["norm.bias"] + np.float32(0.5)
    safetensors.numpy.save_file(tensors, checkpoint, metadata)
    flags = (*sample, "--heads", "features", "--hub_publisher", "someone")
    second = publish_tiny(*flags, "--checkpoints", str(checkpoint.parent))
    assert second.status == 0, second.stderr
    versions = {
        path.name: sorted(version.name for version in path.iterdir())
        for path in (tree / "serving").iterdir()
        if path.is_dir()
    }
    assert versions == {TINY: ["1"], f"{TINY}_fe": ["1", "2"]}
    assert report_of(second)[f"{TINY}_fe"]["hub_handle"] == f"someone/{TINY}_fe/2"


def test_failing_model_is_absent_and_named_and_the_other_is_published(
    publish_tiny, sample, monkeypatch
):
    writer = SavedModelWriter

    def wrong_labels(classifier, config, labels, *others):
        return writer(classifier, config, labels[::-1], *others)

    monkeypatch.setattr(export.convert, "SavedModelWriter", wrong_labels)
    result = publish_tiny(*sample, anew=True)
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


def test_conversion_that_fails_is_reported(publish_tiny, sample, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SavedModelWriter, "write", broken)
    result = publish_tiny(*sample, anew=True)
    assert result.status == 1
    assert not (result.tree / "serving").exists()
    for entry in report_of(result).values():
        assert entry["failures"] == ["conversion failed: OSError: [Errno 5] Input/output error"]


def test_release_that_fails_leaves_no_version(publish_tiny, sample, tmp_path):
    base = tmp_path / "tree" / "serving" / TINY
    base.parent.mkdir(parents=True)
    base.write_text("in the way")
    result = publish_tiny(*sample)
    assert result.status == 1
    assert base.read_text() == "in the way"
    assert report_of(result)[TINY]["failures"][0].startswith(
        "publishing failed: NotADirectoryError"
    )
    assert (result.tree / "serving" / f"{TINY}_fe" / "1").is_dir()


def test_undecodable_image_refuses_unless_allowed(publish_tiny, tiny_variant, tmp_path, data):
    photos = [(data / "photos" / name).read_bytes() for name in ("cat.jpg", "tiny.png")]
    write_shard(tmp_path / "shard", [(image, None) for image in (b"not an image", *photos)])
    flags = ("--sample_shard", str(tmp_path / "shard"), "--heads", "features")
    allowed = publish_tiny(*flags, "--max_bad_images", "1")
    assert allowed.status == 0, allowed.stderr
    entry = report_of(allowed)[f"{TINY}_fe"]
    assert entry["images"] == 2
    assert entry["attention_images"] == 2
    (bad,) = entry["bad_images"]
    # The decision alone, for what that run has found.
    options, _ = parse([*flags[:2], "--checkpoints", "random", "--publish_to", "tree"])
    staged = StagedModel(tiny_variant, "features", Checkpoint("x", "x", "0", False))
    (failure,) = judge(staged, [ShardResult(bad_images=(bad,))], options.max_bad_images).failures
    assert failure.startswith("1 images of the sample cannot be decoded, such as shard-0.png: ")
