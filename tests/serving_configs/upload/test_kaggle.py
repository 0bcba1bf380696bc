"""`upload kaggle` to a server on loopback: what is there then, and what a break leaves to do."""

import json
import pathlib
import shutil
from collections.abc import Callable

import pytest

from serving_configs.__main__ import main
from tests.support.kaggle_uploads import TOKEN, Kaggle
from tests.support.keys import write_keys
from tests.support.manifests import write_small_version

PAGE = "team/cait/tensorFlow2/m"
Upload = Callable[..., tuple[int, str, str]]


@pytest.fixture
def upload(small_tree: pathlib.Path, kaggle: Kaggle, capsys: pytest.CaptureFixture[str]) -> Upload:
    """Runs the command: its exit status, its output, and its messages."""

    def run(*flags: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["upload", "kaggle", str(small_tree), "--owner", "team", *flags])
        output, messages = capsys.readouterr()
        assert TOKEN not in output + messages
        assert "secret" not in messages
        return status, output, messages

    return run


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_versions_become_versions_of_a_variation_with_pages(
    upload: Upload, kaggle: Kaggle, small_tree: pathlib.Path
) -> None:
    assert upload() == (
        0,
        "team/cait: created, private\n"
        f"version 1 of m (4 files, 0.0 MB): uploaded to {PAGE}\n"
        f"version 2 of m (3 files, 0.0 MB): uploaded to {PAGE}\n"
        f"page of {PAGE}: written\n"
        "page of team/cait: written\n",
        "",
    )
    variation = kaggle.variations["team/cait/m"]
    serving = small_tree / "serving" / "m"
    assert variation.versions == [contents(serving / "1"), contents(serving / "2")]
    assert variation.notes[1] == "Version 2 of m"
    written = small_tree / "hub" / "kaggle" / "cait"
    page = json.loads((written / "m" / "model-instance-metadata.json").read_text())
    assert variation.fields["overview"] == page["overview"]
    assert variation.fields["licenseName"] == page["licenseName"]
    # Handles of the page have the owner's name.
    assert variation.fields["usage"] == page["usage"].replace("cait/m/", "team/m/").strip()
    assert "${PATH}" in variation.fields["usage"]
    model = kaggle.models["team/cait"]
    assert model["isPrivate"]
    assert (
        model["description"]
        == json.loads((written / "model-metadata.json").read_text())["description"]
    )


THERE = (
    f"version 1 of m ({PAGE}/1): already there\n"
    f"version 2 of m ({PAGE}/2): already there\n"
    f"page of {PAGE}: already there\n"
    "page of team/cait: already there\n"
)


def test_what_is_there_is_not_uploaded_again(upload: Upload, kaggle: Kaggle) -> None:
    assert upload()[0] == 0
    changes, puts = list(kaggle.changes), list(kaggle.puts)
    assert upload() == (0, THERE, "")
    assert upload("--dry_run") == (0, THERE, "")
    assert (kaggle.changes, kaggle.puts) == (changes, puts)


def test_a_dry_run_says_what_an_upload_does(upload: Upload, kaggle: Kaggle) -> None:
    status, expected, messages = upload("--dry_run")
    assert (status, messages) == (0, "")
    assert (kaggle.changes, kaggle.puts) == ([], [])
    assert upload() == (0, expected.replace("would be ", ""), "")


def test_versions_are_known_by_their_files_and_not_by_kaggle_s_numbers(
    upload: Upload, kaggle: Kaggle, small_tree: pathlib.Path
) -> None:
    """One was deleted there, one is somebody's, and one was signed later."""
    assert upload()[0] == 0
    variation = kaggle.variations["team/cait/m"]
    variation.versions[0] = None
    variation.versions.insert(1, {"saved_model.pb": b"somebody's"})
    output = upload()[1]
    assert output.startswith(
        f"version 1 of m (4 files, 0.0 MB): uploaded to {PAGE}\n"
        f"version 2 of m ({PAGE}/3): already there\n"
    )
    assert upload()[1].startswith(f"version 1 of m ({PAGE}/4): already there\n")
    keys = write_keys(small_tree.parent)
    assert main(["sign", str(small_tree), "--sign_with", str(keys.private)]) == 0
    assert upload()[1].count(f"uploaded to {PAGE}\n") == 2
    assert upload()[1].startswith(f"version 1 of m ({PAGE}/5): already there\n")
    assert "assets.extra/model.sig" in (variation.versions[-1] or {})


def test_a_page_that_somebody_changed_is_written_again(upload: Upload, kaggle: Kaggle) -> None:
    """Who may see the model is not changed."""
    assert upload()[0] == 0
    kaggle.models["team/cait"].update(isPrivate=False, subtitle="mine")
    expected = THERE.replace("team/cait: already there", "team/cait: written")
    assert upload() == (0, expected, "")
    assert kaggle.models["team/cait"]["subtitle"].startswith("Image classifiers")
    assert not kaggle.models["team/cait"]["isPrivate"]
    # The description names all models.
    kaggle.models["team/cait"]["subtitle"] = "mine"
    assert upload("--model", "m")[1] == THERE.removesuffix("page of team/cait: already there\n")


def test_another_version_of_the_same_number_is_refused(
    upload: Upload, kaggle: Kaggle, small_tree: pathlib.Path
) -> None:
    assert upload()[0] == 0
    changes = list(kaggle.changes)
    shutil.rmtree(small_tree / "serving" / "m" / "2")
    write_small_version(small_tree / "serving" / "m" / "2", b"another graph")
    assert upload() == (
        2,
        THERE.splitlines(keepends=True)[0],
        "error: Kaggle's version 2 is another version 2 of m, from another tree; expected the same "
        "files; remove it on Kaggle, or upload with another --owner\n",
    )
    assert kaggle.changes == changes


def test_a_damaged_version_is_refused(
    upload: Upload, kaggle: Kaggle, small_tree: pathlib.Path
) -> None:
    (small_tree / "serving" / "m" / "1" / "saved_model.pb").write_bytes(b"First graph")
    status, _, message = upload()
    assert status == 2
    assert message.startswith("error: version 1 of m does not verify: saved_model.pb has SHA-256")
    assert kaggle.puts == []


def test_a_broken_upload_goes_on_where_it_ended(upload: Upload, kaggle: Kaggle) -> None:
    """At a file of the second version, and then at the call that makes the version of its files."""
    kaggle.refuse = {"CreateModelInstanceVersion": 500}
    status, output, message = upload()
    assert status == 2
    assert output.endswith(f"uploaded to {PAGE}\n")
    assert message == (
        "error: upload kaggle: Kaggle answers 500 Internal Server Error; run the same command "
        "again: it goes on where it ended\n"
    )
    kaggle.refuse = {"PUT variables.index": 500}
    status, _, message = upload()
    assert status == 2
    assert message.startswith(
        "error: upload kaggle: Kaggle refuses an upload for team (Upload failed with status code "
        "500"
    )
    kaggle.refuse = {}
    before = len(kaggle.puts)
    assert upload()[1].startswith(THERE.splitlines()[0])
    # The files of the second version.
    assert len(kaggle.puts[before:]) == 3
    assert len(kaggle.variations["team/cait/m"].versions) == 2


def test_credentials_that_are_missing_or_refused_are_one_line(
    upload: Upload, kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    kaggle.refuse = {"CreateModel": 403}
    assert upload() == (
        2,
        "",
        "error: upload kaggle: the token may not write models of team (403 Forbidden); check "
        "--owner\n",
    )
    kaggle.refuse = {}
    monkeypatch.setenv("KAGGLE_API_TOKEN", "wrong")
    assert upload() == (
        2,
        "",
        "error: upload kaggle: Kaggle refuses the credentials (401 Unauthorized); make a new "
        "token\n",
    )
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    status, output, message = upload()
    assert (status, output, message.count("\n")) == (2, "", 1)
    assert message.startswith("error: upload kaggle: no credentials; expected KAGGLE_API_TOKEN")
    (tmp_path / "kaggle").mkdir()
    credentials = tmp_path / "kaggle" / "kaggle.json"
    credentials.write_text("{}")
    assert upload() == (
        2,
        "",
        f"error: upload kaggle: Kaggle credentials file at {credentials} is missing 'username' "
        "key\n",
    )
    assert kaggle.changes == []
    credentials.write_text('{"username": "me", "key": "a-key"}')
    assert upload()[0] == 0


def test_a_site_that_does_not_answer_is_one_line(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9"
    )
    assert upload() == (
        2,
        "",
        "error: upload kaggle: Kaggle cannot be reached (ConnectionError); check the connection\n",
    )
