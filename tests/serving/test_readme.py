"""The pages' commands and snippets about serving, as they stand there, on a published model.

They are run by a shell, in a directory that has what they name, with two changes: free ports in
place of 8500 and 8501, and the Python that runs the tests in place of `.venv/bin/python`.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.variants import VARIANTS
from serving.client import Client
from serving.model_server.launch import ServerProcess, free_port, server_process
from tests.support import model_server
from tests.support.paths import REPOSITORY
from tests.support.programs import require_program
from tests.support.readme import blocks, is_of_serving, lines, words
from tests.support.snippets import Runner
from tests.support.trees import SHALLOW, SHALLOW_VARIANT

SERVER = "serving.model_server"
GRPCURL = REPOSITORY / "tests" / "support" / "grpcurl.py"
COMMANDS = [line for line in lines() if is_of_serving(line)]
PAGES = [line for line in COMMANDS if "serving.page" in line]
CALLS = [line for line in COMMANDS if SERVER not in line and line not in PAGES]
BY_GRPCURL = [line for line in CALLS if "grpcurl" in line]
# The one with TLS is run by tests/serving/model_server/test_tls.py, on a server with TLS.
SNIPPETS = [text for text in blocks("python") if is_of_serving(text) and "Tls(" not in text]

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def place(shallow_tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory as this repository is after `make export`, as far as the commands can see."""
    place = tmp_path_factory.mktemp("place")
    (place / "build").mkdir()
    (place / "build" / "published").symlink_to(shallow_tree)
    (place / "tests").symlink_to(REPOSITORY / "tests")
    return place


@pytest.fixture(scope="module")
def server(place: pathlib.Path) -> Iterator[ServerProcess]:
    """The server of the pages' command that starts one of a model."""
    with started(place, "--model_base_path") as server:
        yield server


@contextlib.contextmanager
def started(place: pathlib.Path, flag: str) -> Iterator[ServerProcess]:
    """The server of the one command with a flag."""
    (command,) = (line for line in COMMANDS if SERVER in line and flag in line)
    # The server's working directory is not the place.
    command = command.replace("=build/", "=$PWD/build/")
    program, *rest = words(command.replace("$PWD", str(place)))
    assert (program, rest[:2]) == (".venv/bin/python", ["-m", SERVER])
    flags = [flag for flag in rest[2:] if flag != "--rest_api_port=8501"]
    assert len(flags) == len(rest) - 3
    with server_process(*flags, binary=model_server.server_binary, rest_port=free_port()) as server:
        yield server


def test_the_whole_tree_is_served_with_labels(place: pathlib.Path) -> None:
    with started(place, "--model_config_file") as server:
        for label in ("stable", "canary"):
            with Client(f"localhost:{server.port}", "cait_xxs24_224", label=label) as client:
                assert client.metadata().version == 1


@pytest.fixture(scope="module")
def run(place: pathlib.Path, server: ServerProcess) -> Run:
    """Runs a command, once, and gives what it prints."""

    @functools.cache
    def run(command: str) -> str:
        text = re.sub(r"localhost:8500\b", f"localhost:{server.port}", command)
        text = re.sub(r"localhost:8501\b", f"localhost:{server.rest_port}", text)
        if "-m serving.client" in text and "--server" not in text:
            text = f"{text} --server localhost:{server.port}"
        text = text.replace(".venv/bin/python", sys.executable)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {text}"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def only(part: str) -> str:
    """The one call that has this in it."""
    (line,) = (line for line in CALLS if part in line)
    return line


def test_the_ways_to_call_are_there() -> None:
    programs = {word for line in CALLS for word in words(line)}
    assert {"curl", "grpcurl", ".venv/bin/python"} <= programs
    assert len(SNIPPETS) == 5


@pytest.mark.parametrize(
    "line", [line for line in CALLS if line not in BY_GRPCURL], ids=lambda line: line[-60:]
)
def test_command_runs(run: Run, line: str) -> None:
    assert run(line)


@pytest.fixture(params=["grpcurl", "its stand-in"])
def grpcurl(request: pytest.FixtureRequest) -> str:
    """What the word stands for in a command. No registry that every machine has holds grpcurl."""
    if model_server.server_binary:
        pytest.skip("the real server has neither reflection nor, unasked, health checking")
    if request.param == "grpcurl":
        return require_program("grpcurl")
    return f".venv/bin/python {GRPCURL}"


@pytest.mark.parametrize("line", BY_GRPCURL, ids=lambda line: line[-60:])
def test_command_of_grpcurl_runs(run: Run, grpcurl: str, line: str) -> None:
    said = run(re.sub(r"\bgrpcurl\b", grpcurl, line))
    if "Health/Check" in line:
        assert json.loads(said) == {"status": "SERVING"}
        return
    reply = json_format.Parse(said, predict_pb2.PredictResponse())
    (probabilities,) = json.loads(run(only(":predict")))["outputs"]["probabilities"]
    assert list(reply.outputs) == ["probabilities"]
    assert list(reply.outputs["probabilities"].float_val) == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize("line", PAGES, ids=lambda line: line[-60:])
def test_page_opens_on_the_models(place: pathlib.Path, server: ServerProcess, line: str) -> None:
    program, *flags = words(line.replace("localhost:8500", f"localhost:{server.port}"))
    assert program == ".venv/bin/python"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BROWSER": "true"}
    with subprocess.Popen(
        [sys.executable, *flags, "--port=0"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("page: http://localhost:")
            models = None
            end = time.monotonic() + 300
            while models is None:
                assert time.monotonic() < end, "the page has no models"
                models = served_on(f"{said.split()[1]}/models")
        finally:
            process.terminate()
    assert process.returncode == 0
    assert "cait_xxs24_224" in [model["name"] for model in models]
    assert all(model["versions"][0]["state"] == "AVAILABLE" for model in models)


def served_on(url: str) -> list[Any] | None:
    """The models that a page has to offer, or None while its server is starting."""
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url) as reply:
        models: list[Any] = json.load(reply)["models"]
        return models
    time.sleep(0.2)
    return None


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[-1][:40])
def test_python_snippet_runs(
    place: pathlib.Path, server: ServerProcess, snippet: str, run: Run, run_snippet: Runner
) -> None:
    # The model has fewer blocks than the one that the snippet names.
    named, shallow = VARIANTS[SHALLOW].config, SHALLOW_VARIANT.config
    text = snippet.replace(f"block={named.sa_blocks - 1}", f"block={shallow.sa_blocks - 1}")
    text = text.replace("localhost:8500", f"localhost:{server.port}")
    # With this repository to import from only where the snippet is about that.
    ran = run_snippet(text, place, [REPOSITORY] if "from serving." in snippet else [])
    assert ran.status == 0, ran.err
    found = ran.out.splitlines()
    if "serving.client" in snippet and "classify" in snippet:
        assert found[1:] == (
            [] if "asyncio" in snippet else ["(1, 1000)", "(1, 4, 1, 197)", "(1, 4, 196, 196)"]
        )
        (classified,) = json.loads(run(f"{only(' classify ')} --json"))
        best = classified["classes"][0]
        assert found[0] == f"{best['label']} {best['probability']}"
    elif "classification_pb2" in snippet:
        (classified,) = json.loads(run(f"{only(' classify ')} --json"))
        for line, best in zip(found, classified["classes"], strict=True):
            label, _, score = line.rpartition(" ")
            assert label == best["label"]
            assert float(score) == pytest.approx(best["probability"], rel=1e-5)
    elif "serving.client" in snippet:
        assert found == ["(1, 1000) (1, 4, 1, 197)"]
    else:
        # What it shows is what the other ways to make the same call show.
        number, probability = found[0].split()
        (probabilities,) = json.loads(run(only(":predict")))["outputs"]["probabilities"]
        assert max(range(1000), key=probabilities.__getitem__) == int(number)
        assert probabilities[int(number)] == pytest.approx(float(probability), rel=1e-5)


def test_what_the_commands_say(run: Run) -> None:
    assert run(only("client status")) == "1  AVAILABLE\n"
    assert run(only("client metadata")).startswith("cait_xxs24_224 version 1, not trained\n")
    status = json.loads(run(only("curl --silent http://")))
    assert [entry["state"] for entry in status["model_version_status"]] == ["AVAILABLE"]
    photo, *best = run(only(" classify ")).splitlines()
    assert photo.startswith("tests/data/photos/cat.jpg (not trained: ")
    assert len(best) == 5


def test_what_grpcurl_sends_is_a_predict_call(
    run: Run, server: ServerProcess, place: pathlib.Path
) -> None:
    """Its JSON by protobuf's rules and its method by its name, which needs no grpcurl."""
    body, command = only("| grpcurl").split(" | grpcurl ")
    request = json_format.Parse(run(body), predict_pb2.PredictRequest())
    assert words(command)[-1] == "tensorflow.serving.PredictionService/Predict"
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(request, timeout=60)
    (probabilities,) = json.loads(run(only(":predict")))["outputs"]["probabilities"]
    assert list(reply.outputs) == ["probabilities"]
    assert list(reply.outputs["probabilities"].float_val) == pytest.approx(probabilities, abs=1e-6)
