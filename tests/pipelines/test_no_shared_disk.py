"""Jobs whose inputs and outputs are all in an object store, and workers that find finished work."""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterator

import pytest

import export.convert
from export.checkpoints.sources import RandomSource, open_checkpoint, write_random_checkpoint
from export.errors import CheckpointError
from pipelines.data.checkpoints import on_this_worker, open_source
from pipelines.data.shards import plan_shards
from pipelines.elements import ConvertTask, StagedVariant
from pipelines.evaluate.command import main as evaluate
from pipelines.publish import validate
from pipelines.publish.context import PublishContext
from pipelines.publish.convert import convert_variant
from pipelines.publish.options import parse
from pipelines.publish.validate import LoadedModels, validate_variant
from pipelines.runtime.files import find_files, local_copy, read_bytes
from pipelines.store.staging import Staging
from pipelines.verify import main as verify
from tests.support.conversions import conversions_reused
from tests.support.labelled_records import write_shard, write_two
from tests.support.publishers import Tree, object_store
from tests.support.trees import TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Iterator[Tree]:
    with object_store() as tree:
        yield tree


@pytest.fixture
def tree(bucket: Tree, request: pytest.FixtureRequest, tmp_path, monkeypatch) -> Tree:
    of_test = Tree(f"{bucket.root}/{request.node.name}", bucket.options)
    of_test.open()
    # What this host keeps of earlier tests is not found.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return of_test


def test_a_job_reads_and_writes_addresses_alone(publish_tiny, tiny_variant, tree, tmp_path, data):
    store = tree.open()
    write_random_checkpoint(tiny_variant, tmp_path / "weights")
    store.write(f"in/{TINY}.safetensors", (tmp_path / "weights").read_bytes())
    photo = (data / "photos" / "cat.jpg").read_bytes()
    for number in range(2):
        write_shard(tmp_path / "shard", [(photo, None)])
        store.write(f"in/sample-shard-{number}", (tmp_path / "shard").read_bytes())
    result = publish_tiny(
        *("--heads", "classifier"),
        *("--checkpoints", f"{tree.root}/in", "--sample_shard", f"{tree.root}/in/sample-shard-*"),
        *("--publish_to", f"{tree.root}/out", "--staging_dir", str(tmp_path), *tree.options),
    )
    assert result.status == 0, result.stderr
    assert verify([f"{tree.root}/out", *tree.options]) == 0
    report = json.loads(store.open("out/report.json").read())
    assert {model["checkpoint"]["source"] for model in report["models"]} == {
        f"{tree.root}/in/{TINY}.safetensors"
    }

    write_shard(tmp_path / "records", [(photo, 3), (photo, 4)])
    store.write("in/records", (tmp_path / "records").read_bytes())
    for label in range(2):
        store.write(f"in/folder/{label}/cat.jpg", photo)
        store.write(f"in/folder/{label}/notes.txt", b"no image")
    status = evaluate(
        [
            *("--models", f"{tree.root}/out/serving", "--output", f"{tree.root}/figures"),
            *("--data", f"{tree.root}/in/records", f"{tree.root}/in/folder", *tree.options),
        ]
    )
    assert status == 0
    (entry,) = json.loads(store.open("figures/evaluation.json").read())["models"]
    assert (entry["model"], entry["images"]) == (TINY, 4)
    names = set(store.sizes("figures"))
    kept = [json.loads(store.open(f"figures/{name}").read()) for name in names if "shards" in name]
    images = {shard["shard_name"].partition("[")[0]: shard["score"]["images"] for shard in kept}
    assert images == {"records": 2, "folder": 2}
    assert {"evaluation.json", "evaluation.md", "evaluation.csv"} < names
    assert not [name for name in names if name.startswith(".run-")]


CONFIG = "config.json"


@pytest.fixture
def task(tiny_variant, tmp_path) -> ConvertTask:
    checkpoint = open_checkpoint(RandomSource(), tiny_variant, tmp_path / "weights")
    return ConvertTask(tiny_variant, ("classifier", "features"), checkpoint)


def context(root: str, *flags: str) -> PublishContext:
    options, _ = parse(
        ["--checkpoints", "random", "--sample_shard", "x", "--publish_to", root, *flags]
    )
    return PublishContext(options=options, staging=Staging(root, ".staging/run"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModels:
    """The models of a worker: another test with the same variant finds them loaded."""
    return LoadedModels()


# The store is first: what is loaded is what came from there.
@pytest.mark.parametrize("where", ["store", "disk"])
def test_a_repeated_step_finds_its_work(task, tree, tmp_path, loaded, monkeypatch, where):
    run = context(str(tmp_path / "tree") if where == "disk" else tree.root)
    with conversions_reused():
        staged = convert_variant(task, run)
    (shard,) = plan_shards([write_two(tmp_path / "sample")])
    results = validate_variant(staged, shard, run, loaded)
    assert [result.error for result in results] == ["", ""]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the work is done again")

    monkeypatch.setattr(export.convert, "convert", fail)
    monkeypatch.setattr(validate, "PreparedShard", fail)
    assert convert_variant(task, run) == staged
    assert validate_variant(staged, shard, run, loaded) == results
    run.staging.remove()
    run.staging.remove_copies()


def test_work_that_failed_is_not_kept(task, tmp_path, loaded):
    run = context(str(tmp_path / "tree"))
    with conversions_reused():
        staged = convert_variant(task, run)
    broken = StagedVariant(
        tuple(dataclasses.replace(model, path="models/nowhere") for model in staged.models)
    )
    (shard,) = plan_shards([write_two(tmp_path / "sample")])
    assert all(result.error for result in validate_variant(broken, shard, run, LoadedModels()))
    assert not any(result.error for result in validate_variant(staged, shard, run, loaded))


def test_a_worker_without_the_file_gets_the_same_weights(task, tree, tiny_variant, tmp_path):
    elsewhere = dataclasses.replace(task.checkpoint, path="/elsewhere/weights.safetensors")
    made = on_this_worker(elsewhere, tiny_variant)
    assert pathlib.Path(made.path).read_bytes() == pathlib.Path(task.checkpoint.path).read_bytes()
    other = dataclasses.replace(elsewhere, sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"checkpoint random: SHA-256 .* on this worker"):
        on_this_worker(other, tiny_variant)
    lost = dataclasses.replace(elsewhere, source="/elsewhere/weights.safetensors")
    with pytest.raises(CheckpointError, match="not on this worker; expected --checkpoints with a"):
        on_this_worker(lost, tiny_variant)

    store = tree.open()
    content = pathlib.Path(task.checkpoint.path).read_bytes()
    store.write(f"w/{TINY}.safetensors", content)
    remote = open_checkpoint(open_source(f"{tree.root}/w/*.safetensors"), tiny_variant, tmp_path)
    fetched = on_this_worker(dataclasses.replace(remote, path="/elsewhere"), tiny_variant)
    assert pathlib.Path(fetched.path).read_bytes() == content
    with pytest.raises(
        CheckpointError, match=rf"no file {TINY}\.safetensors or TINY_32\.pth there"
    ):
        open_checkpoint(open_source(f"{tree.root}/none"), tiny_variant, tmp_path)


def test_a_file_that_is_named_after_no_variant_is_found_by_url(task, tree, tiny_variant, tmp_path):
    store = tree.open()
    for name in ("model.safetensors", "best.safetensors"):
        folder = f"{tree.root}/{name.partition('.')[0]}"
        file, config = (f"{folder}/{part}".removeprefix(f"{tree.root}/") for part in (name, CONFIG))
        store.write(file, pathlib.Path(task.checkpoint.path).read_bytes())
        store.write(config, f'{{"architecture": "{TINY}"}}'.encode())
        for url in (folder, f"{folder}/", f"{folder}/{name}"):
            checkpoint = open_checkpoint(open_source(url), tiny_variant, tmp_path)
            assert checkpoint.source == f"{folder}/{name}"
            assert checkpoint.sha256 == task.checkpoint.sha256
            elsewhere = dataclasses.replace(checkpoint, path="/elsewhere")
            # Models of another size are made of the same file.
            for variant in (tiny_variant, tiny_variant.at_size(48)):
                assert on_this_worker(elsewhere, variant) == checkpoint
        store.write(config, b'{"architecture": "cait_s24_224"}')
        for url in (folder, f"{folder}/{name}"):
            with pytest.raises(CheckpointError, match=rf"json is of 'cait_s24_224'; .*{TINY}"):
                open_checkpoint(open_source(url), tiny_variant, tmp_path)
        store.write(config, b"{}")
    # Two files of weights leave it open which is meant.
    store.write("best/other.pth", b"PK")
    with pytest.raises(CheckpointError, match=rf"no file {TINY}\.safetensors or TINY_32\.pth"):
        open_checkpoint(open_source(f"{tree.root}/best"), tiny_variant, tmp_path)


def test_random_weights_of_another_size_are_made_on_a_worker(task, tiny_variant):
    elsewhere = dataclasses.replace(task.checkpoint, path="/elsewhere/weights.safetensors")
    made = on_this_worker(elsewhere, tiny_variant.at_size(48))
    assert pathlib.Path(made.path).read_bytes() == pathlib.Path(task.checkpoint.path).read_bytes()


def test_a_file_that_has_changed_is_copied_again(tree):
    store = tree.open()
    stamps = []
    for content in (b"one", b"two"):
        store.write("file", content)
        (found,) = find_files(f"{tree.root}/file")
        stamps.append(found.stamp)
        assert local_copy(found.address, found.stamp).read_bytes() == content
        assert read_bytes(found.address) == content
    assert stamps[0] != stamps[1]
    with pytest.raises(FileNotFoundError, match=f"{tree.root}/none"):
        local_copy(f"{tree.root}/none")
