"""What the tests of versions share."""

import pathlib

import pytest


@pytest.fixture
def base(tmp_path: pathlib.Path) -> pathlib.Path:
    """A model's folder of versions, `m`, without any."""
    path = tmp_path / "m"
    path.mkdir()
    return path
