"""Paths and versions of the published tree."""

import pathlib

from serving_configs import base_path, hub_handle, next_version
from serving_configs.tree.paths import STAGING, version_directory, version_path


def test_paths():
    assert base_path("/x", "m") == pathlib.Path("/x/serving/m")
    assert version_path("m", 3) == "serving/m/3"
    assert version_directory("/x", "m", 3) == pathlib.Path("/x/serving/m/3")
    assert hub_handle("someone", "m", 3) == "someone/m/3"


def test_staging_is_in_no_base_path():
    assert base_path("/x", "m") not in pathlib.Path("/x", STAGING).parents


def test_next_version_counts_numbers_alone():
    assert next_version([]) == 1
    assert next_version(["1", "2"]) == 3
    assert next_version(["2", "notes", "1.tmp", "-5", "009"]) == 10
