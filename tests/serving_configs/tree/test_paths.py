"""Paths and versions of the published tree."""

import pathlib

from serving_configs import base_path, hub_handle, next_version, report_path, staging_root


def test_paths():
    assert base_path("/x", "m") == pathlib.Path("/x/serving/m")
    assert staging_root("/x") == pathlib.Path("/x/.staging")
    assert report_path("/x", "md") == pathlib.Path("/x/report.md")
    assert hub_handle("someone", "m", 3) == "someone/m/3"


def test_staging_is_in_no_base_path():
    assert base_path("/x", "m") not in staging_root("/x").parents


def test_next_version_counts_numbers_alone():
    assert next_version([]) == 1
    assert next_version(["1", "2"]) == 3
    assert next_version(["2", "notes", "1.tmp", "-5", "009"]) == 10
