"""The flags about versions, by whole runs on a tiny variant."""

import json
import shutil

import pytest

from export.checkpoints.sources import write_random_checkpoint
from pipelines.publish.options import parse
from pipelines.verify import main as verify
from serving_configs import load_manifest, published_versions
from serving_configs.server.models_config import (
    models_config_path,
    named_versions,
    read_models_config,
)
from tests.support.labelled_records import write_two

TINY = "cait_tiny_32"
FE = f"{TINY}_fe"


def test_versions_are_published_once_numbered_as_asked_and_kept_as_named(
    publish_tiny, tiny_tree, tmp_path
):
    tree = str(shutil.copytree(tiny_tree, tmp_path / "tree"))
    manifest = load_manifest(tiny_tree / "serving" / FE / "1")
    assert (manifest.checkpoint.source, manifest.checkpoint.trained) == ("random", False)
    assert manifest.gate
    assert manifest.software["tensorflow"]

    flags = ("--heads", "features", "--sample_shard", write_two(tmp_path / "sample"))
    again = publish_tiny(*flags, "--keep_versions", "1")
    assert again.status == 0, again.stderr
    (model,) = json.loads((again.tree / "report.json").read_text())["models"]
    assert (model["version"], model["unchanged"]) == (1, True)
    assert "1 (unchanged)" in again.stdout
    assert published_versions(tree) == {TINY: [1], FE: [1]}

    third = publish_tiny(*flags, "--version", "4", "--keep_versions", "1")
    assert third.status == 0, third.stderr
    # The config that the first run wrote has the first version under a label.
    assert named_versions(read_models_config(models_config_path(tree)))[FE] >= {1}
    assert published_versions(tree) == {TINY: [1], FE: [1, 4]}
    assert not (third.tree / ".staging").exists()
    assert verify([tree]) == 0


def test_untrained_weights_are_refused_before_anything_is_made(
    publish_tiny, tiny_variant, tmp_path
):
    from tests.support.publishers import local_tree, publish, write_files

    publish(local_tree(tmp_path / "tree"), write_files(tmp_path / "m"), ["cait_one"], "trained")
    weights = tmp_path / "weights"
    write_random_checkpoint(tiny_variant, weights / f"{TINY}.safetensors")
    for source in ("random", str(weights)):
        result = publish_tiny("--checkpoints", source)
        assert result.status == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: the weights are not trained, and ")
        assert "--allow_untrained" in line
    assert published_versions(str(tmp_path / "tree")) == {"cait_one": [1]}


def test_what_cannot_be_written_around_the_versions_is_named(publish_tiny, tiny_tree, tmp_path):
    tree = shutil.copytree(tiny_tree, tmp_path / "tree")
    flags = ("--heads", "features", "--sample_shard", write_two(tmp_path / "sample"))
    # A config that can't be edited is found before the work, not after it.
    config = models_config_path(str(tree))
    before = config.read_bytes()
    config.write_text("models {")
    refused = publish_tiny(*flags, "--version", "2")
    assert refused.status == 2
    assert f"error: {config}: " in refused.stderr
    assert "; mend it, or remove it for a new one" in refused.stderr
    assert published_versions(str(tree))[FE] == [1]

    config.write_bytes(before)
    shutil.rmtree(tree / "hub")
    (tree / "hub").write_text("a file")
    failed = publish_tiny(*flags, "--version", "2")
    assert failed.status == 1
    assert f"error: {tree}/hub" in failed.stderr
    assert "; the versions are published; once this is mended, publishing them" in failed.stderr
    assert published_versions(str(tree))[FE] == [1, 2]


FLAGS = ("--checkpoints", "random", "--sample_shard", "x")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--version", "0"),
        ("--version", "next"),
        ("--version", str(2**63)),
        ("--keep_versions", "0"),
        ("--staging_ttl", "-1"),
        ("--staging_ttl", "nan"),
        ("--staging_dir", "/elsewhere"),
    ],
)
def test_wrong_values_are_named(flag, value):
    from export.errors import UserError

    with pytest.raises(UserError, match=f"{flag} {value}"):
        parse([*FLAGS, "--publish_to", "tree", flag, value])


def test_url_may_have_a_directory_on_each_worker():
    options, _ = parse([*FLAGS, "--publish_to", "s3://bucket/tree"])
    assert options.staging_dir is None
    options, _ = parse([*FLAGS, "--publish_to", "s3://bucket/tree/", "--staging_dir", "/x"])
    assert (options.publish_to, options.staging_dir) == ("s3://bucket/tree", "/x")
