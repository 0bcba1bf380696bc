"""Every reader of an object store's files sees OSErrors, whatever the filesystem itself raises."""

import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator

import pytest
from apache_beam.io.filesystems import FileSystems

from pipelines.filesystem import open_file
from pipelines.publish.remote_configs import write_remote_configs
from pipelines.runtime.files import local_copy, read_bytes
from pipelines.store.base import open_store, read
from pipelines.store.beam import BeamStore
from pipelines.store.host_cache import HostCache
from pipelines.verify import version_problems
from serving_configs import FileRecord
from tests.support.publishers import MODELS, Tree, object_store, publish, write_files

FILE = f"serving/{MODELS[0]}/1/variables/variables.index"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Tree]:
    with object_store() as tree:
        yield tree


@pytest.fixture(scope="module")
def published(bucket: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree with a published version."""
    publish(bucket, write_files(tmp_path_factory.mktemp("model") / "m"), [MODELS[0]], "a")
    return bucket


@pytest.fixture
def tree(published: Tree, tmp_path, monkeypatch) -> Iterator[Tree]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    whole = read(open_store(published.root), FILE)
    yield published
    open_store(published.root).write(FILE, whole)


@pytest.fixture
def replaced(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced by a shorter one whenever it has been opened."""
    opened = FileSystems.open
    store = open_store(tree.root)

    def replace(address: str, *arguments: object, **named: object) -> object:
        file = opened(address, *arguments, **named)
        if address.endswith(FILE):
            store.write(FILE, b"x")
            # The store's own error: what it is asked for is behind the end.
            file.seek(8)
        return file

    monkeypatch.setattr(FileSystems, "open", replace)


def _fetch(root: str, path: pathlib.Path) -> None:
    record = FileRecord("variables.index", 1, "")
    HostCache(str(path)).fetch(open_store(root), FILE.rsplit("/", 1)[0], [record], "copy")


READERS: dict[str, Callable[[str, pathlib.Path], object]] = {
    "a job's small file": lambda root, _: read_bytes(f"{root}/{FILE}"),
    "a job's input": lambda root, _: local_copy(f"{root}/{FILE}", "stamp"),
    "a store's small file": lambda root, _: read(open_store(root), FILE),
    "a copy of a model": _fetch,
}


@pytest.mark.parametrize("reader", READERS)
def test_file_that_is_replaced_while_it_is_read(reader, replaced, tree, tmp_path):
    with pytest.raises(OSError, match=rf"{re.escape(FILE)}: cannot be read \("):
        READERS[reader](tree.root, tmp_path / "tmp")
    # No part of it stays for the next reader.
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]


def test_verify_names_a_version_that_is_replaced_while_it_is_read(replaced, tree):
    (problem,) = version_problems(open_store(tree.root), MODELS[0], "1")
    assert "cannot be read (" in problem
    assert FILE in problem


def test_configs_of_a_version_that_is_replaced_are_one_error(replaced, tree, tmp_path):
    from export.errors import UserError

    with pytest.raises(UserError, match=r"configs cannot be written .*cannot be read"):
        write_remote_configs(BeamStore(tree.root), "cait", tmp_path)


def test_names_with_characters_of_globs_are_no_patterns(bucket):
    store = Tree(f"{bucket.root}/of [2026] *?", bucket.options).open()
    store.write("serving/a[1]/file", b"x")
    assert store.sizes("") == {"serving/a[1]/file": 1}
    assert store.children("serving/a[1]") == ["file"]


def test_file_that_is_not_there(tree):
    with pytest.raises(FileNotFoundError, match=f"{tree.root}/none"):
        open_file(f"{tree.root}/none")
