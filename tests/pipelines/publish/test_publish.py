"""The main job, run as its users run it."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.checkpoints.random_weights import seeded_normal
from export.variants import VARIANTS
from signatures import Head, signatures_for
from signatures.inspection import contract_problems
from signatures.labels import imagenet_labels
from tests.support.paths import REPOSITORY
from tests.support.trees import MODELS as TINY_MODELS
from tests.support.trees import TINY

VARIANT = VARIANTS["cait_xxs24_224"]
MODELS: dict[str, Head] = {"cait_xxs24_224": "classifier", "cait_xxs24_224_fe": "features"}


def files_of(tree: pathlib.Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_run_ends_with_the_table(published):
    assert published.status == 0, published.stderr
    header, *rows = published.stdout.splitlines()
    assert re.split(r"\s{2,}", header) == [
        "model",
        "version",
        "parameters",
        "worst difference",
        "seconds",
        "path",
    ]
    cells = [row.split() for row in rows]
    assert [(row[0], row[1], row[2]) for row in cells] == [
        ("cait_xxs24_224", "1", "11,956,264"),
        ("cait_xxs24_224_fe", "1", "11,763,264"),
    ]
    for row in cells:
        assert 0 < float(row[3]) < 1e-5
        assert float(row[4]) > 0
        assert row[5] == str(published.tree / "serving" / row[0] / "1")


def test_progress_is_told_in_plain_lines_and_nothing_else_is(published):
    lines = published.stderr.splitlines()
    running = r"validate \S+ on \S+: \d of 4 images, \d+\.\d images/s, [\d:]+ left"
    finished = [line for line in lines if not re.fullmatch(running, line)]
    assert len(finished) == 8
    for number, line in enumerate(finished, 1):
        assert re.fullmatch(rf"\[{number}/8\] (convert|validate|publish) .+: \d+\.\d s", line)


def test_tree_holds_what_is_published_and_nothing_that_is_not(published):
    version = {
        "saved_model.pb",
        "keras_metadata.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets.extra/manifest.json",
        "assets.extra/sbom.cdx.json",
        "assets.extra/tf_serving_warmup_requests",
        "batching_params.pbtxt",
    }
    expected = {f"serving/{model}/1/{name}" for model in MODELS for name in version}
    labels = f"serving/{VARIANT.name}/1/assets.extra/labels.txt"
    assert (published.tree / labels).read_text().splitlines() == list(imagenet_labels())
    # What is written around the models is looked at by the tests of serving_configs.
    found = {
        name
        for name in files_of(published.tree)
        if not name.startswith(("hub/", "deployment/")) and name.count("/") != 1
    }
    assert found == expected | {labels, "report.json", "report.md"}
    assert not (published.tree / ".staging").exists()


@pytest.mark.parametrize("model", MODELS)
def test_signatures_on_disk_are_those_of_the_contract(published, model):
    path = published.tree / "serving" / model / "1" / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature_defs = proto.meta_graphs[0].signature_def
    assert contract_problems(signature_defs, MODELS[model], VARIANT.config.geometry) == []


@pytest.mark.parametrize("model", MODELS)
def test_published_model_holds_to_timms_stored_outputs(published, data, model):
    golden = np.load(data / "golden" / f"{VARIANT.name}.npz")
    images = tf.constant(seeded_normal(f"{VARIANT.name}:input", (2, 224, 224, 3)))
    loaded = tf.saved_model.load(str(published.tree / "serving" / model / "1"))
    main = "logits" if MODELS[model] == "classifier" else "features"

    output, self_attention, class_attention = loaded(images)
    np.testing.assert_allclose(output, golden[main], rtol=0, atol=1e-5)
    for block in (0, 12, 23):
        rows = self_attention[f"sa_ffn_block_{block}_att"][:, :, :4]
        np.testing.assert_allclose(rows, golden[f"sa_{block}_rows"], rtol=0, atol=1e-6)
    for block in range(24):
        total = np.sum(self_attention[f"sa_ffn_block_{block}_att"], dtype=np.float64)
        assert total == pytest.approx(golden["sa_sums"][block], rel=1e-5)
    for block in (0, 1):
        found = class_attention[f"ca_ffn_block_{block}_att"]
        np.testing.assert_allclose(found, golden[f"ca_{block}"], rtol=0, atol=1e-6)

    default = loaded.signatures["serving_default"](images=images)[main]
    np.testing.assert_allclose(default, golden[main], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_report_has_every_figure_of_the_gate(published, model):
    report = json.loads((published.tree / "report.json").read_text())
    (entry,) = (entry for entry in report["models"] if entry["model"] == model)
    assert entry["failures"] == []
    assert entry["hub_handle"] == f"cait/{model}/1"
    assert entry["images"] == 8
    assert entry["attention_images"] == 2
    assert entry["checkpoint"]["trained"] is False
    figures = {(figure["signature"], figure["output"]): figure for figure in entry["figures"]}
    for name, signature in signatures_for(MODELS[model], VARIANT.config.geometry).items():
        for output in signature.outputs:
            assert (name, output.name) in figures
    for block in range(24):
        assert ("__call__", f"sa_ffn_block_{block}_att") in figures
    for figure in figures.values():
        assert figure["difference"] <= figure["bound"]
    text = (published.tree / "report.md").read_text()
    assert f"## {model}" in text
    for name, output in figures:
        assert f"| {name} | {output} |" in text


def test_manifest_says_what_the_version_is(published):
    path = published.tree / "serving" / "cait_xxs24_224" / "1" / "assets.extra" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["model"] == "cait_xxs24_224"
    assert manifest["version"] == 1
    assert manifest["checkpoint"]["source"] == "random"
    assert len(manifest["checkpoint"]["sha256"]) == 64


def test_two_worker_processes_publish_the_same_tree(tiny_tree, shards, tmp_path):
    """The workers share the two shards."""
    command = [
        *(sys.executable, "-m", "tests.support.publish_tiny"),
        *("--variants", TINY, "--checkpoints", "random"),
        *("--sample_shard", shards, "--publish_to", str(tmp_path)),
        *("--direct_running_mode", "multi_processing", "--direct_num_workers", "2"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path) == files_of(tiny_tree)
    for model in TINY_MODELS:
        for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
            one, two = (tree / "serving" / model / "1" / name for tree in (tiny_tree, tmp_path))
            assert one.read_bytes() == two.read_bytes()
    one, two = (
        {
            (entry["model"], figure["signature"], figure["output"])
            for entry in json.loads((tree / "report.json").read_text())["models"]
            for figure in entry["figures"]
        }
        for tree in (tiny_tree, tmp_path)
    )
    assert one == two


def test_make_export_runs_that_command():
    # Below `make test` this make is a nested one, which would print the folders it enters, too.
    dry = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "export"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    command = " ".join(dry.stdout.replace("\\\n", " ").split())
    assert command.endswith(
        "-m pipelines.publish --variants cait_xxs24_224 --checkpoints random "
        "--sample_shard 'tests/data/sample-shard-*' --publish_to build/published"
    )
