"""`upload hf` to a hub on loopback: what is there then, and what a broken upload leaves to do."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import yaml

from serving_configs.__main__ import main
from serving_configs.server.models_config import (
    PREVIOUS,
    as_text,
    find_model,
    models_config_path,
    read_models_config,
    set_labels,
)
from tests.support.hf_uploads import TOKEN, HuggingFace
from tests.support.manifests import write_small_version
from tests.support.paths import REPOSITORY

NAME = "team/m"
Upload = Callable[..., tuple[int, str, str]]


@pytest.fixture
def upload(
    small_tree: pathlib.Path, hugging_face: HuggingFace, capsys: pytest.CaptureFixture[str]
) -> Upload:
    """Runs the command: its exit status, its output, and its messages."""

    def run(*flags: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["upload", "hf", str(small_tree), "--owner", "team", *flags])
        output, messages = capsys.readouterr()
        assert TOKEN not in output + messages
        return status, output, messages

    return run


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def relabel(tree: pathlib.Path, labels: dict[str, int]) -> None:
    path = models_config_path(str(tree))
    config = read_models_config(path)
    set_labels(find_model(config, "m"), labels)
    path.write_text(as_text(config))


def test_versions_become_commits_with_cards_and_labels_tags(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    assert upload() == (
        0,
        "team/m: created, private\n"
        "version 1 of m (4 files, 0.0 MB): uploaded to team/m, tag v1\n"
        "version 2 of m (3 files, 0.0 MB): uploaded to team/m, tag v2\n"
        "label canary of team/m: set to v1\n"
        "label stable of team/m: set to v1\n",
        "",
    )
    repository = hugging_face.repositories[NAME]
    assert repository.private
    assert repository.messages == ["initial commit", "Version 1", "Version 2"]
    assert set(repository.tags) == {"v1", "v2", "stable", "canary"}
    assert repository.tags["v2"] == repository.main
    assert repository.tags["stable"] == repository.tags["canary"] == repository.tags["v1"]
    for version in (1, 2):
        found = dict(repository.at(f"v{version}") or {})
        card = found.pop("README.md").decode()
        del found[".gitattributes"]
        assert found == contents(small_tree / "serving" / "m" / str(version))
        _, front, text = card.split("---\n", 2)
        assert yaml.safe_load(front) == {
            "license": "other",
            "pipeline_tag": "image-classification",
            "tags": ["cait", "saved-model", "tensorflow"],
        }
        assert text.startswith(f"\n# m, version {version}\n\n## Overview\n")
        assert text.count(f'snapshot_download("{NAME}", revision="v{version}")') == 2
        assert "tar.gz" not in text


THERE = (
    "version 1 of m (team/m, tag v1): already there\n"
    "version 2 of m (team/m, tag v2): already there\n"
    "card of team/m: already there\n"
    "label canary of team/m (v1): already there\n"
    "label stable of team/m (v1): already there\n"
)


def test_what_is_there_is_not_uploaded_again(upload: Upload, hugging_face: HuggingFace) -> None:
    assert upload()[0] == 0
    changes, puts = list(hugging_face.changes), list(hugging_face.puts)
    assert upload() == (0, THERE, "")
    assert upload("--dry_run") == (0, THERE, "")
    assert (hugging_face.changes, hugging_face.puts) == (changes, puts)


def test_a_dry_run_says_what_an_upload_does(upload: Upload, hugging_face: HuggingFace) -> None:
    status, expected, _ = upload("--dry_run", "--model", "m")
    assert status == 0
    assert (hugging_face.changes, hugging_face.puts, hugging_face.repositories) == ([], [], {})
    assert upload() == (0, expected.replace("would be ", ""), "")


@pytest.mark.slow
def test_what_changed_is_uploaded_alone(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    assert upload()[0] == 0
    repository = hugging_face.repositories[NAME]
    relabel(small_tree, {"stable": 2, "canary": 2, PREVIOUS: 1})
    assert upload()[1].endswith(
        "card of team/m: already there\nlabel canary of team/m: set to v2\n"
        "label previous of team/m: set to v1\nlabel stable of team/m: set to v2\n"
    )
    relabel(small_tree, {"stable": 1, "canary": 1})
    assert upload()[1].endswith("label previous of team/m: removed\n")
    assert set(repository.tags) == {"v1", "v2", "stable", "canary"}
    assert repository.tags["stable"] == repository.tags["canary"] == repository.tags["v1"]
    # A card that somebody changed, and a version that came to the tree later than a newer one.
    repository.commits[repository.main]["README.md"] = b"mine"
    assert "card of team/m: written\n" in upload()[1]
    del repository.tags["v1"], repository.tags["stable"], repository.tags["canary"]
    assert upload()[0] == 0
    files = repository.at("main") or {}
    assert files["saved_model.pb"] == b"second graph"
    assert b'revision="v2"' in files["README.md"]
    assert (repository.at("stable") or {})["saved_model.pb"] == b"first graph"
    assert sorted(set(hugging_face.puts)) == sorted(hugging_face.puts)


def test_another_version_of_the_same_number_is_refused(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    assert upload()[0] == 0
    changes = list(hugging_face.changes)
    shutil.rmtree(small_tree / "serving" / "m" / "2")
    write_small_version(small_tree / "serving" / "m" / "2", b"another graph")
    assert upload() == (
        2,
        "version 1 of m (team/m, tag v1): already there\n",
        "error: team/m has another version 2, from another tree; expected the same files; remove "
        "its tag v2, or upload with another --owner\n",
    )
    assert hugging_face.changes == changes


def test_a_damaged_version_is_refused(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    path = small_tree / "serving" / "m" / "1" / "saved_model.pb"
    path.write_bytes(b"First graph")
    for flags in ("--dry_run",), ():
        status, _, message = upload(*flags)
        assert status == 2
        assert message.startswith("error: version 1 of m does not verify: saved_model.pb has SHA")
    assert hugging_face.puts == []


def test_labels_that_would_be_taken_for_versions_are_refused(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    relabel(small_tree, {"stable": 1, "v2": 1})
    status, output, message = upload()
    assert (status, output) == (2, "")
    assert message.startswith("error: label 'v2' of m: it cannot be a tag, since the hub has")


@pytest.mark.slow
def test_a_broken_upload_goes_on_where_it_ended(upload: Upload, hugging_face: HuggingFace) -> None:
    """It breaks at a large file of the second version, and then between a commit and its tag."""
    second = hashlib.sha256(b"second graph").hexdigest()
    hugging_face.refuse = {f"PUT /large/{second}": 418}
    status, output, message = upload()
    assert status == 2
    assert output.endswith("uploaded to team/m, tag v1\n")
    assert message == (
        "error: upload hf: the hub answers 418 no rights for <hidden>; run the same command again: "
        "it goes on where it ended\n"
    )
    hugging_face.refuse = {}
    before = list(hugging_face.puts)
    status, output, _ = upload()
    assert status == 0
    assert output.startswith(THERE.splitlines()[0])
    assert hugging_face.puts[len(before) :] == [second]
    repository = hugging_face.repositories[NAME]
    commits = len(repository.commits)
    del repository.tags["v2"]
    hugging_face.refuse = {r"POST /api/models/team/m/tag/.*": 503}
    assert upload()[0] == 2
    hugging_face.refuse = {}
    assert upload()[0] == 0
    assert len(repository.commits) == commits
    assert repository.tags["v2"] == repository.main


@pytest.mark.slow
def test_an_interrupted_upload_goes_on_where_it_ended(
    upload: Upload, hugging_face: HuggingFace, small_tree: pathlib.Path
) -> None:
    """As a process of its own, by SIGINT while a large file is on its way."""
    arrived, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        # Of the second version.
        if "v1" in hugging_face.repositories[NAME].tags:
            arrived.set()
            go_on.wait(60)

    hugging_face.hold = hold
    command = [sys.executable, "-m", "serving_configs", "upload", "hf", str(small_tree)]
    environment = {
        "HF_ENDPOINT": hugging_face.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    process = subprocess.Popen(
        [*command, "--owner", "team"],
        env={**os.environ, **environment, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in a shell's background, it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=60)
    finally:
        process.kill()
        go_on.set()
    assert process.returncode == 130
    assert output.endswith("uploaded to team/m, tag v1\n")
    assert messages == "interrupted by SIGINT; run the same command again\n"
    hugging_face.hold = lambda: None
    puts = len(hugging_face.puts)
    assert upload()[0] == 0
    assert set(hugging_face.repositories[NAME].tags) == {"v1", "v2", "stable", "canary"}
    # Both versions have the same index of variables.
    assert hugging_face.puts[puts:] == [hashlib.sha256(b"second graph").hexdigest()]


def test_credentials_that_are_missing_or_refused_are_one_line(
    upload: Upload,
    hugging_face: HuggingFace,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    hugging_face.refuse = {"POST /api/repos/create": 403}
    assert upload()[::2] == (
        2,
        "error: upload hf: the token may not write models of team (403 no rights for <hidden>); "
        "check --owner\n",
    )
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert upload() == (
        2,
        "",
        "error: upload hf: the hub refuses the credentials (401 Unauthorized); make a new token\n",
    )
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    status, output, message = upload()
    assert (status, output, message.count("\n")) == (2, "", 1)
    assert message.startswith("error: upload hf: no credentials; expected HF_TOKEN, or what hf")
    assert hugging_face.changes == []


def test_a_hub_that_does_not_answer_is_one_line(
    upload: Upload, hugging_face: HuggingFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert upload() == (
        2,
        "",
        "error: upload hf: http://127.0.0.1:9 cannot be reached (ConnectError); check the "
        "connection and HF_ENDPOINT\n",
    )
