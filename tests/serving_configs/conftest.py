"""A published tree of a tiny model of both heads, put there by the pipeline."""

import pathlib
import shutil

import pytest


@pytest.fixture
def tree(tiny_tree: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may write to; its models.config names the copy's own paths."""
    copy = pathlib.Path(shutil.copytree(tiny_tree, tmp_path / "tree"))
    config = copy / "serving" / "models.config"
    config.write_text(config.read_text().replace(str(tiny_tree), str(copy)))
    return copy
