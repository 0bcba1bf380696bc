"""Publishing under faults, scaled down; `benchmarks.publish_faults` has the whole of it."""

import pathlib
import shutil
from collections.abc import Iterator

import pytest

from benchmarks.publish_faults import FaultError, killed, two_at_once
from benchmarks.publishing import Poller
from tests.support.publishers import MODELS, Tree, local_tree, object_store, publish, write_files

pytestmark = pytest.mark.slow

MODEL = MODELS[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_files(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    return local_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def store() -> Iterator[Tree]:
    with object_store() as tree:
        yield tree


def below(store: Tree, name: str) -> Tree:
    return Tree(f"{store.root}/{name}", store.options)


def test_killed_publishers_leave_no_half_version(tree, model):
    row = killed(tree, model, publishes=12)
    assert row[1].startswith("12 (")
    assert "0 incomplete" in row[2]


def test_reader_sees_a_version_that_is_written_in_place(tree, model):
    """The check itself: what is copied into the base path is caught while it is not whole."""
    publish(tree, model, [MODEL], "a")
    files = [path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()]
    poller = Poller(tree, files, load=False)
    target = pathlib.Path(tree.root) / "serving" / MODEL / "2"
    target.mkdir()
    shutil.copy(model / "saved_model.pb", target)
    seen = poller.stop()
    assert seen.versions == 2
    assert len(seen.incomplete) == 1
    assert "serving/cait_one/2: " in seen.incomplete[0]


def test_version_that_does_not_verify_fails_the_run(tree, model):
    publish(tree, model, [MODEL], "a")
    (pathlib.Path(tree.root) / "serving" / MODEL / "1" / "saved_model.pb").unlink()
    with pytest.raises(FaultError, match=r"saved_model\.pb is missing"):
        killed(tree, model, publishes=0)


def test_two_publishers_at_once_lose_and_share_nothing(tree, model):
    row = two_at_once(tree, model, rounds=3)
    assert "12 versions verify" in row[3]


def test_killed_publishers_leave_no_half_version_in_an_object_store(store, model):
    row = killed(below(store, "killed"), model, publishes=2)
    assert "0 incomplete" in row[2]


def test_two_publishers_at_once_in_an_object_store(store, model):
    row = two_at_once(below(store, "two"), model, rounds=1, names=MODELS[:1])
    assert "2 versions verify" in row[3]
