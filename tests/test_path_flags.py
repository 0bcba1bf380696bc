"""Every path flag of every command reads `~`, `file:` URLs, spaces and relative paths the same way.

The flags are found in the commands' own parsers: a new flag that takes text has to be named here.
"""

import os
import pathlib

import pytest

from pipelines.evaluate.options import parse as parse_evaluate
from pipelines.publish.options import parse as parse_publish
from signatures.addresses import AddressError, absolute_glob, address, is_url
from tests.support.path_flags import MODULES, PATHS, flags_of, parser_of, read, takes_paths

NO_PATHS = {
    # Names and choices.
    *("accuracy_gate", "compute_dtype", "heads", "hub_publisher", "label", "model", "model_name"),
    *(
        "models",
        "only",
        "owner",
        "profile",
        "reload_clients",
        "revision",
        "storage_class",
        "tls_server_name",
        "variants",
        "versions",
        "weights",
    ),
    # Numbers that their commands check.
    *(
        "batch_size",
        "batches",
        "clients",
        "first_label",
        "image_size",
        "images",
        "keep_versions",
        "max_bad_images",
    ),
    *("staging_ttl", "version", "workers"),
    # Addresses of hosts and pages.
    *("host", "hub_url", "server"),
    # A directory of the servers' machines, where nobody here knows what `~` is. It is refused.
    "base_path",
}


def test_every_command_is_here():
    assert set(PATHS) == set(MODULES)


@pytest.mark.parametrize("command", MODULES)
def test_path_flags_of_a_command(command, tmp_path, monkeypatch):
    home, here = tmp_path / "a home", tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    flags = list(flags_of(parser_of(command)))
    paths = [flag for flag in flags if takes_paths(flag)]
    assert {flag.dest for flag in paths} == PATHS[command]
    # A path that is not read here.
    assert not [flag.dest for flag in flags if flag.type is pathlib.Path]
    # What takes any text, and is none of them, is no path.
    others = {flag.dest for flag in flags if flag.type is None} - PATHS[command]
    assert others <= NO_PATHS
    for flag in paths:
        assert read(flag, "~") == str(home)
        assert read(flag, f"file://{home}/x%20y") == f"{home}/x y"
        assert read(flag, f"{home}/x y/") == f"{home}/x y"
        assert os.path.abspath(read(flag, "x y")) == str(here / "x y")
        for wrong in ("~nobody-here/x", "file://host/x", "s3:/bucket"):
            with pytest.raises(AddressError, match=wrong):
                read(flag, wrong)
        if isinstance(flag.default, str) and flag.default:
            assert takes_paths(flag), "argparse reads a default that is text, too"


def test_jobs_have_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    options, _ = parse_publish(
        [
            *("--checkpoints", "~/weights", "--sample_shard", "~/s-*", "t-*", "s3://bucket/u-*"),
            *("--publish_to", "file:///tree", "--labels", "~/names"),
        ]
    )
    assert dict(options.places) == {
        "--checkpoints": f"{tmp_path}/home/weights",
        "--publish_to": "/tree",
        "--sample_shard": "s3://bucket/u-*",
    }
    assert options.sample_shard[:2] == (f"{tmp_path}/home/s-*", f"{tmp_path}/t-*")
    assert options.labels == tmp_path / "home" / "names"
    evaluation, _ = parse_evaluate(["--models", "~/tree/serving", "--data", "val"], "evaluate")
    assert evaluation.output == f"{tmp_path}/home/tree/evaluation"
    assert evaluation.data == (f"{tmp_path}/val",)


@pytest.mark.parametrize("source", ["hf", "random"])
def test_sources_of_weights_that_are_no_paths(source):
    options, _ = parse_publish(
        ["--checkpoints", source, "--sample_shard", "x", "--publish_to", "y"]
    )
    assert options.checkpoints == source


def test_what_is_before_a_glob_is_no_pattern(tmp_path, monkeypatch):
    here = tmp_path / "[1]"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    (here / "s-1").touch()
    (here / "t[2]").touch()
    import glob

    for pattern in ("s-*", "~/s-*"):
        assert glob.glob(absolute_glob(pattern)) == [str(here / "s-1")]
    # A shell puts in the names that it finds.
    assert absolute_glob("t[2]") == str(here / "t[2]")


def test_files_that_a_shell_has_named_are_found(tmp_path):
    from pipelines.runtime.files import find_files

    (tmp_path / "t[2]").touch()
    assert [file.address for file in find_files(str(tmp_path / "t[2]"))] == [str(tmp_path / "t[2]")]


def test_urls_and_paths_are_told_apart():
    assert is_url("s3://bucket/x")
    assert is_url("HDFS://host/x")
    assert not is_url("a/b://c")
    assert address("s3://bucket/x//") == "s3://bucket/x"
    assert address("./~/x") == "~/x"
    for wrong in ("", "s3://", "file:x"):
        with pytest.raises(AddressError):
            address(wrong)


def test_a_wrong_path_is_one_line(capsys: pytest.CaptureFixture[str]):
    from pipelines.publish.command import main

    flags = ["--checkpoints", "random", "--sample_shard", "x", "--publish_to", "~nobody-here/x"]
    assert main(flags) == 2
    assert capsys.readouterr().err == (
        "error: argument --publish_to: ~nobody-here/x: no home directory of '~nobody-here'; for a "
        "path of that name write ./~nobody-here/x\n"
    )


def test_directory_named_by_home_is_the_one_that_is_read(tmp_path, monkeypatch, capsys):
    from pipelines.verify import main

    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["~/tree"]) == 2
    assert f"error: {tmp_path}/tree: nothing is published there" in capsys.readouterr().err
    assert not pathlib.Path("~").exists()
