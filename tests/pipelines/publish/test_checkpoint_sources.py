"""Whole runs from the places that trained weights come from, and what their manifests say."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
import safetensors.numpy

from export.checkpoints.random_weights import random_tensors
from serving_configs.tree.manifest import load_manifest
from tests.support.hub_server import COMMIT, Hub, serving
from tests.support.labelled_records import write_two
from tests.support.paths import REPOSITORY
from tests.support.pth_file import Tensors, write_tensors
from tests.support.trees import TINY, TINY_VARIANT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """Weights of the tiny variant, as many as a trained one's."""
    return random_tensors("trained", TINY_VARIANT.config)


def test_weights_of_the_hub_are_published_with_their_commit(
    tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    repository, tree = f"timm/{TINY}.fb_dist_in1k", tmp_path / "tree"
    flags = ["--checkpoints", "hf", "--variants", TINY, "--heads", "classifier"]
    flags += ["--sample_shard", write_two(tmp_path / "sample"), "--publish_to", str(tree)]
    with serving(Hub(repository, safetensors.numpy.save(tensors))) as hub:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "NO_PROXY": "*",
        }
        done = subprocess.run(
            # The hub's library reads its environment when it is imported.
            [sys.executable, "-m", "tests.support.publish_tiny", *flags],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        content = hub.content
    assert done.returncode == 0, done.stderr
    # It would be right on next to nothing.
    assert (
        f"note: the accuracy of {TINY} is not compared with the published one: no image"
        in done.stderr
    )
    checkpoint = load_manifest(tree / "serving" / TINY / "1").checkpoint
    assert checkpoint.source == f"hf://{repository}@{COMMIT}/model.safetensors"
    assert checkpoint.sha256 == hashlib.sha256(content).hexdigest()
    assert checkpoint.trained
    page = (tree / "hub" / "docs" / "cait" / TINY / "1.md").read_text()
    assert "70.0" in page
    assert COMMIT in page


def test_weights_of_deit_s_file_are_published_with_its_digest(
    publish_tiny, tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = write_tensors(tmp_path / "TINY_32.pth", tensors, "module.")
    flags = ("--heads", "classifier", "--sample_shard", write_two(tmp_path / "sample"))
    result = publish_tiny("--checkpoints", str(tmp_path), *flags)
    assert result.status == 0, result.stderr
    checkpoint = load_manifest(result.tree / "serving" / TINY / "1").checkpoint
    assert checkpoint.source == str(path)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.trained
    (model,) = json.loads((result.tree / "report.json").read_text())["models"]
    assert model["worst"] < 1e-4
