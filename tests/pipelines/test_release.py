"""Versions are put in place whole, once, and never on top of each other."""

import json
import pathlib
import threading

import pytest

from export.checkpoints import Checkpoint
from pipelines.records import StagedModel
from pipelines.release import release

MODEL = "cait_xxs24_224"
CHECKPOINT = Checkpoint("weights.safetensors", "test", "0" * 64, False)


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "tree"


def stage(tree: pathlib.Path, attempt: str) -> StagedModel:
    path = tree / ".staging" / attempt / MODEL
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_text(attempt)
    (path / "variables" / "variables.index").write_text(attempt)
    return StagedModel(MODEL, "classifier", CHECKPOINT, path=str(path))


def manifest_of(path: str) -> dict[str, object]:
    text = (pathlib.Path(path) / "assets.extra" / "manifest.json").read_text()
    content: dict[str, object] = json.loads(text)
    return content


def test_first_version_is_1_and_the_staged_directory_is_gone(tree):
    staged = stage(tree, "a")
    released = release(staged, str(tree), "run", {"variant": MODEL})
    assert released.version == 1
    assert released.path == str(tree / "serving" / MODEL / "1")
    assert (pathlib.Path(released.path) / "variables" / "variables.index").read_text() == "a"
    assert not pathlib.Path(staged.path).exists()
    assert manifest_of(released.path) == {
        "model": MODEL,
        "version": 1,
        "run": "run",
        "variant": MODEL,
    }


def test_next_version_is_above_the_highest_and_others_stay(tree):
    (tree / "serving" / MODEL / "007").mkdir(parents=True)
    (tree / "serving" / MODEL / "notes").mkdir()
    assert release(stage(tree, "a"), str(tree), "run", {}).version == 8
    names = {path.name for path in (tree / "serving" / MODEL).iterdir()}
    assert names == {"007", "8", "notes"}


def test_step_that_is_done_again_finds_its_version(tree):
    first = release(stage(tree, "a"), str(tree), "run", {})
    again = release(stage(tree, "b"), str(tree), "run", {})
    assert again == first
    assert (pathlib.Path(first.path) / "saved_model.pb").read_text() == "a"
    assert release(stage(tree, "c"), str(tree), "another run", {}).version == 2


def test_runs_at_once_get_versions_of_their_own(tree):
    staged = [stage(tree, str(i)) for i in range(8)]
    released = []
    barrier = threading.Barrier(len(staged))

    def run(i: int) -> None:
        barrier.wait()
        released.append((i, release(staged[i], str(tree), f"run {i}", {})))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(staged))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.version for _, entry in released) == list(range(1, 9))
    for i, entry in released:
        assert (pathlib.Path(entry.path) / "saved_model.pb").read_text() == str(i)
        assert manifest_of(entry.path)["version"] == entry.version
        assert manifest_of(entry.path)["run"] == f"run {i}"
