"""Paths and versions of the published tree."""

import pathlib

import pytest

from serving_configs import base_path, hub_handle, next_version
from serving_configs.tree.paths import STAGING, name_problem, version_directory, version_path


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


@pytest.mark.parametrize("name", ["pets", "pets-v2", "my_pets_224", "a1b", "x" * 47])
def test_names_that_every_reader_takes(name: str):
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Pets", "has 'P';"),
        ("my pets/1", "has ' ' '/';"),
        ("pets:1", "has ':';"),
        ("pets.v2", "has '.';"),
        ("kätzchen", "has 'ä';"),
        ("ab", "has 2 characters;"),
        ("x" * 48, "has 48 characters;"),
        ("2pets", "begins or ends otherwise"),
        ("-pets", "begins or ends otherwise"),
        ("pets_", "begins or ends otherwise"),
        ("pets--2", "two separators in a row"),
        ("pets\n", "has '\\n';"),
        ("pets_fe", "ends as names of feature extractors do"),
        ("pets-fe", "ends as names of feature extractors do"),
        ("cait", "a name that the tree uses itself"),
    ],
)
def test_names_that_one_reader_does_not_take(name: str, found: str):
    assert found in name_problem(name)


def test_a_wrong_name_is_told_what_is_expected():
    assert "expected 3 to 47 lower-case letters, digits, '_' and '-'" in name_problem("My Pets")
