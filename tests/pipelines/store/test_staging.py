"""Staging in an object store: what one host puts there, another finds, whole."""

import pathlib
import time
from collections.abc import Iterator

import pytest

from pipelines.store.area import Area
from pipelines.store.beam import BeamStore
from pipelines.store.staging import Staging, staging_area
from serving_configs import record_files
from tests.support.publishers import Tree, object_store, write_files

HOUR = 3600.0


@pytest.fixture(scope="module")
def bucket() -> Iterator[Tree]:
    with object_store() as tree:
        yield tree


@pytest.fixture
def tree(bucket: Tree, request: pytest.FixtureRequest) -> Tree:
    of_test = Tree(f"{bucket.root}/{request.node.name}", bucket.options)
    of_test.open()
    return of_test


def host(staging: Staging, scratch: pathlib.Path) -> Staging:
    """The same run, as a worker with another disk has it."""
    scratch.mkdir(exist_ok=True)
    return Staging(staging.root, staging.path, str(scratch))


def put(staging: Staging) -> pathlib.Path:
    with staging.directory() as directory:
        write_files(directory / "models" / "m")
        staging.put_directory(directory / "models", "models/v/attempt")
    return directory


def test_a_model_is_found_on_another_host_and_fetched_once(tree, tmp_path):
    with staging_area(tree.root, HOUR, str(tmp_path)) as staging:
        assert not put(staging).exists()
        files = record_files(write_files(tmp_path / "same"))
        other = host(staging, tmp_path / "other")
        copy = other.fetch("models/v/attempt/m", files)
        assert copy.is_relative_to(tmp_path / "other")
        assert record_files(copy) == files
        # The host that made it has it already, and the other has it now.
        tree.open().remove(staging.path)
        for one in (staging, other):
            assert record_files(one.fetch("models/v/attempt/m", files)) == files
        with pytest.raises(OSError, match=r"saved_model\.pb|variables|assets|fingerprint"):
            host(staging, tmp_path / "third").fetch("models/v/attempt/m", files)
        assert list((tmp_path / "third").rglob("saved_model.pb")) == []


def test_a_model_that_is_not_what_was_put_there_is_refused(tree, tmp_path):
    with staging_area(tree.root, HOUR, str(tmp_path)) as staging:
        put(staging)
        files = record_files(write_files(tmp_path / "same"))
        staging.write("models/v/attempt/m/saved_model.pb", b"other")
        with pytest.raises(OSError, match=r"saved_model\.pb has 5 bytes; expected 50250"):
            host(staging, tmp_path / "other").fetch("models/v/attempt/m", files)
        assert list((tmp_path / "other").rglob("saved_model.pb")) == []


def test_nothing_of_a_run_stays_and_dead_runs_go(tree, tmp_path):
    store = tree.open()
    store.write(".staging/dead/models/v/record.json", b"{}")
    with staging_area(tree.root, HOUR, str(tmp_path)) as first:
        assert {"dead", first.run} == set(store.children(".staging"))
        put(first)
    assert store.children(".staging") == ["dead"]
    assert list(tmp_path.rglob("saved_model.pb")) == []
    with staging_area(tree.root, 0.0, str(tmp_path)) as second:
        assert store.children(".staging") == [second.run]
    assert store.children(".staging") == []


@pytest.mark.slow
def test_a_live_run_says_so(tree, tmp_path):
    store = tree.open()
    with staging_area(tree.root, 4.0, str(tmp_path)) as staging:
        store.remove(f"{staging.path}/alive")
        # It is written again within the time to live.
        for _ in range(100):
            if store.sizes(staging.path):
                break
            time.sleep(0.1)  # A store has no event to wait for.
        assert set(store.sizes(staging.path)) == {"alive"}


def test_an_object_that_is_replaced_while_it_is_read_is_an_error_of_the_store(tree, monkeypatch):
    area = Area(tree.root, "run")
    area.write("progress/step.json", b"a longer content")
    # Its length is asked for first; a shorter one is there when it is read.
    content = tree.open().open("run/progress/step.json")
    area.write("progress/step.json", b"x")
    monkeypatch.setattr(BeamStore, "open", lambda *_: content)
    content.seek(8)
    with pytest.raises(OSError, match=r"progress/step\.json: cannot be read \("):
        area.read("progress/step.json")
