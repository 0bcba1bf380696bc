"""The pages' commands and snippets about configs and the hub, as they stand there.

Run by a shell in a directory that has what they name, with free ports in place of 8000 and 8500,
and the Python that runs the tests in place of `.venv/bin/python`.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serving.model_server.flags import parse_flags
from serving.model_server.servables.policy import State
from serving_configs.__main__ import main
from serving_configs.hub.reader import check_archive
from serving_configs.server.models_config import (
    find_model,
    labels_of,
    models_config_path,
    named_versions,
    read_models_config,
)
from tests.support.hf_uploads import HuggingFace
from tests.support.kaggle_uploads import Kaggle
from tests.support.keys import write_keys
from tests.support.model_server import running
from tests.support.paths import REPOSITORY
from tests.support.readme import blocks, is_of_hub, is_of_trust, lines, words
from tests.support.static_site import static_site
from tests.support.trees import add_version
from tests.support.waiting import until

MODEL = "cait_xxs24_224"
ARCHIVE = f"hub/cait/{MODEL}/1.tar.gz"
COMMANDS = [line for line in lines() if is_of_hub(line)]
TRUST = [line for line in lines() if is_of_trust(line)]
CONFIGS = ("extract", "label", "promote", "rollback", "status", *3 * ("upload",), "write")
SNIPPETS = [snippet for snippet in blocks("python") if is_of_hub(snippet)]


@pytest.fixture(scope="module")
def place(shallow_tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory as this repository is after two publish runs, as far as the commands can see."""
    place = tmp_path_factory.mktemp("place")
    tree = pathlib.Path(shutil.copytree(shallow_tree, place / "build" / "published"))
    add_version(tree, MODEL, 2)
    config = models_config_path(str(tree))
    config.write_text(config.read_text().replace(str(shallow_tree), str(tree)))
    return place


def run(place: pathlib.Path, program: list[str], **environment: str) -> str:
    done = subprocess.run(
        program,
        cwd=place,
        env={**os.environ, "TFHUB_CACHE_DIR": str(place / "cache"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(place: pathlib.Path, command: str) -> str:
    program, *arguments = words(command)
    assert program == ".venv/bin/python"
    return run(place, [sys.executable, *arguments], PYTHONPATH=str(REPOSITORY))


def only(name: str) -> str:
    """The one command of `serving_configs` with this name."""
    (line,) = (line for line in COMMANDS if words(line)[2:4] == ["serving_configs", name])
    return line


def labels(place: pathlib.Path) -> dict[str, int]:
    path = models_config_path(str(place / "build" / "published"))
    return labels_of(find_model(read_models_config(path), MODEL))


def test_commands_and_snippets_are_those_that_are_run_here() -> None:
    assert sorted(words(line)[2:4] for line in COMMANDS) == [
        ["http.server", "--directory"],
        *(["serving_configs", name] for name in CONFIGS),
    ]
    assert len(SNIPPETS) == 2


def test_a_version_is_rolled_out_and_back(place: pathlib.Path) -> None:
    label, promote, rollback, write = (
        only(name) for name in ("label", "promote", "rollback", "write")
    )
    # The second version's archive is new.
    assert python(place, write) == f"build/published/hub/cait/{MODEL}/2.tar.gz\n"
    assert labels(place) == {"canary": 1, "stable": 1}
    _, *rows = python(place, only("status")).splitlines()
    assert [row.split()[:2] for row in rows] == [[MODEL, "1"], [MODEL, "2"], [f"{MODEL}_fe", "1"]]
    config = str(models_config_path(str(place / "build" / "published")))
    with running(
        model_config_file=config,
        allow_version_labels_for_unavailable_models=True,
        enable_model_warmup=False,
    ) as server:
        for command, expected in (
            (label, {"canary": 2, "stable": 1}),
            (promote, {"canary": 2, "previous": 1, "stable": 2}),
            (rollback, {"canary": 1, "stable": 1}),
        ):
            python(place, command.replace("127.0.0.1:8500", f"127.0.0.1:{server.port}"))
            assert server.server.core.labels(MODEL) == labels(place) == expected


def test_loading_from_a_static_site(place: pathlib.Path) -> None:
    (snippet,) = (text for text in SNIPPETS if "localhost:8000" in text)
    # What the command serves, by the handler that it uses.
    (command,) = (words(line) for line in COMMANDS if "http.server" in line)
    assert command[3:] == ["--directory", "build/published/hub", "8000"]
    with static_site(place / command[4]) as url:
        run(place, [sys.executable, "-c", snippet.replace("http://localhost:8000", url)])


def test_loading_from_a_bucket(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = (text for text in SNIPPETS if "boto3" in text)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        client.upload_file(str(place / "build" / "published" / ARCHIVE), "models", ARCHIVE)
        run(place, [sys.executable, "-c", snippet], **environment)
    finally:
        server.stop()


def test_unpacking_an_archive(place: pathlib.Path) -> None:
    python(place, only("extract"))
    unpacked = place / "unpacked"
    names = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    with (place / "build" / "published" / ARCHIVE).open("rb") as file:
        assert names == {record.path for record in check_archive(file, ARCHIVE)}


def test_models_are_uploaded(
    place: pathlib.Path,
    hugging_face: HuggingFace,
    kaggle: Kaggle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command's `main`: a process would call the hubs themselves."""
    monkeypatch.chdir(place)
    uploads = [words(line)[3:] for line in COMMANDS if words(line)[3:4] == ["upload"]]
    outputs = []
    for arguments in uploads:
        assert main([*arguments, "--model", MODEL]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0].replace("would be ", "") == outputs[1]
    published = place / "build" / "published" / "serving" / MODEL / "1"
    expected = {
        path.relative_to(published).as_posix(): path.read_bytes()
        for path in published.rglob("*")
        if path.is_file()
    }
    files = hugging_face.repositories[f"my-team/{MODEL}"].at("v1") or {}
    assert {name: files[name] for name in expected} == expected
    (variation,) = kaggle.variations.values()
    assert variation.versions[0] == expected


def test_versions_are_signed_and_checked(place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The commands of the page, in their order."""
    shutil.copytree(place / "build", tmp_path / "build")
    config = models_config_path(str(tmp_path / "build" / "published"))
    config.write_text(config.read_text().replace(str(place), str(tmp_path)))
    openssl, commands = TRUST[:2], TRUST[2:]
    for line in openssl:
        assert words(line)[0] == "openssl"
        if shutil.which("openssl"):
            run(tmp_path, words(line))
    if not shutil.which("openssl"):
        keys = write_keys(tmp_path)
        keys.private.rename(tmp_path / "private.pem")
        keys.public.rename(tmp_path / "public.pem")
    sign, verify, extract, serve = commands
    signed = python(tmp_path, sign).splitlines()
    assert f"build/published/serving/{MODEL}/1" in signed
    # The archive that the first version had from the pipeline is there, with the signature.
    python(tmp_path, extract)
    assert (tmp_path / "checked" / "assets.extra" / "model.sig").is_file()
    # It writes an archive of what has none yet.
    python(tmp_path, only("write"))
    assert "0 not as published" in python(tmp_path, verify)
    options = parse_flags(words(serve)[3:])
    assert options.require_signature
    with running(
        model_config_file=str(tmp_path / options.model_config_file),
        require_signature=str(tmp_path / options.require_signature),
        allow_version_labels_for_unavailable_models=(
            options.allow_version_labels_for_unavailable_models
        ),
        enable_model_warmup=False,
    ) as server:
        assert server.own is not None
        core = server.own.core
        named = named_versions(read_models_config(config))
        assert MODEL in named

        def loaded() -> bool:
            states = {model: core.statuses(model) for model in named}
            return all(
                version in states[model] and states[model][version].state == State.AVAILABLE
                for model, versions in named.items()
                for version in versions
            )

        # A server has started once each model has one version. What still loads delays its end.
        until(loaded)
