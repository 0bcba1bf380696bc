"""Servers as processes of their own, by the way that the real binary is started."""

import pathlib
import sys
from collections.abc import Callable

import numpy as np
import pytest

from serving.client import Client
from serving.model_server.launch import BINARY, LaunchError, find_binary, server_process
from tests.support import model_server
from tests.support.model_server import publish, running

pytestmark = pytest.mark.slow


@pytest.fixture
def binary(tmp_path: pathlib.Path) -> str:
    """A program of the real one's name: this project's server, as it cannot be the real one."""
    path = tmp_path / "bin" / BINARY
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m serving.model_server "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def base(tmp_path: pathlib.Path, half_plus: Callable[..., pathlib.Path]) -> pathlib.Path:
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1", half_plus(2.0, "tf2"))
    return path


def test_the_real_server_is_found_on_the_path_or_by_its_name(
    binary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_binary() is None
    assert find_binary(binary) == binary
    monkeypatch.setenv("PATH", str(pathlib.Path(binary).parent))
    assert find_binary() == binary
    with pytest.raises(LaunchError, match=r"/nowhere/x: no program of that name"):
        find_binary("/nowhere/x")


def test_the_tests_run_against_a_binary(
    binary: str,
    base: pathlib.Path,
    half_plus: Callable[..., pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    """What `--server_binary` does to `running`, which all tests use."""
    monkeypatch.setattr(model_server, "server_binary", binary)
    # The server's package is found from anywhere, and relative paths are left what they are.
    monkeypatch.chdir(tmp_path)
    with running(
        model_name="m", model_base_path=str(base), grpc_max_threads=3, host="127.0.0.1"
    ) as server:
        process = server.process
        assert process is not None
        assert isinstance(process.args, list)
        assert process.args[0] == binary
        assert server.predict("m", {"x": np.array([2.0], np.float32)})["y"] == [3.0]
        publish(base / "2", half_plus(3.0, "tf2"))
        server.until("m", {1: "END", 2: "AVAILABLE"})
        with Client(f"localhost:{server.port}", "m", version=2) as client:
            assert client.predict({"x": np.array([2.0], np.float32)})["y"] == [4.0]
        # What a test can only see from inside is not looked at.
        with pytest.raises(pytest.skip.Exception):
            server.server  # noqa: B018
    assert process.returncode == 0


def test_a_server_that_does_not_come_up(tmp_path: pathlib.Path) -> None:
    with (
        pytest.raises(LaunchError) as caught,
        server_process("--no_such_flag", f"--model_base_path={tmp_path}"),
    ):
        pass
    assert str(caught.value).endswith(
        "ended with status 2: model_server: unknown argument: --no_such_flag"
    )


def test_a_server_that_takes_too_long(tmp_path: pathlib.Path) -> None:
    sleeping = tmp_path / "sleeping"
    sleeping.write_text("#!/bin/sh\necho loading\nexec sleep 600\n")
    sleeping.chmod(0o755)
    with (
        pytest.raises(LaunchError, match="did not answer in time: loading"),
        server_process(binary=str(sleeping), seconds=1),
    ):
        pass
