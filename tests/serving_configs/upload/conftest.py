"""A tree with two versions of a few bytes. The first is stable, and has one file more."""

import pathlib

import pytest

from serving_configs.__main__ import main
from tests.support.manifests import write_small_version


@pytest.fixture
def small_tree(tmp_path: pathlib.Path) -> pathlib.Path:
    tree = tmp_path / "tree"
    first = tree / "serving" / "m" / "1"
    (first / "assets").mkdir(parents=True)
    (first / "assets" / "words.txt").write_text("of the first version alone")
    write_small_version(first, b"first graph")
    assert main(["write", str(tree)]) == 0
    write_small_version(tree / "serving" / "m" / "2", b"second graph")
    assert main(["write", str(tree)]) == 0
    return tree
