"""The HTTP server: how it stops, what it says at the start, CORS, timeouts and load."""

import concurrent.futures
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.errors import Code, ServingError
from serving.model_server.flags import Options
from serving.model_server.launch import free_port
from serving.model_server.server import ModelServer
from tests.support.model_server import Running, publish, running
from tests.support.paths import REPOSITORY
from tests.support.rest_calls import HttpReply, call, post, refused
from tests.support.waiting import until

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/m:predict"


@pytest.fixture
def base(tmp_path: pathlib.Path, half_plus: Callable[..., pathlib.Path]) -> pathlib.Path:
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1", half_plus(2.0, "tf2"))
    return path


@pytest.fixture
def process(base: pathlib.Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The program over the model, and its REST port, which it has to be told."""
    port = free_port()
    command = [sys.executable, "-m", "serving.model_server", "--port=0"]
    command += [f"--rest_api_port={port}", "--model_name=m", f"--model_base_path={base}"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, port
    process.kill()
    process.communicate()


def slow(seconds: float) -> dict[str, Any]:
    return {"signature_name": "slow", "instances": [{"x": 2.0, "seconds": seconds}]}


def announced(seconds: float, begun: pathlib.Path) -> dict[str, Any]:
    row = {"x": 2.0, "seconds": seconds, "begun": str(begun)}
    return {"signature_name": "announced", "instances": [row]}


@pytest.mark.slow
def test_sigterm_answers_what_is_in_flight(
    process: tuple[Any, int], tmp_path: pathlib.Path
) -> None:
    server, port = process
    assert server.stdout.readline().startswith("model_server: serving gRPC on 127.0.0.1:")
    assert server.stdout.readline() == f"model_server: serving REST on 127.0.0.1:{port}\n"
    assert post(port, PREDICT, slow(0)) == {"predictions": [3.0]}
    replies: list[HttpReply] = []
    body = announced(4, tmp_path / "begun")
    asking = threading.Thread(target=lambda: replies.append(call(port, "POST", PREDICT, body)))
    # A connection that is kept without a call holds nothing up.
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    idle.request("GET", "/v1/models/m")
    idle.getresponse().read()
    asking.start()
    until((tmp_path / "begun").exists)
    server.send_signal(signal.SIGTERM)
    until(lambda: refuses_connections(port))
    # Nothing new is taken while the last one is answered.
    assert asking.is_alive()
    asking.join()
    idle.close()
    assert replies[0].json == {"predictions": [3.0]}
    out, err = server.communicate(timeout=30)
    assert (server.returncode, out) == (0, "")
    assert [line.split(" INFO ")[1] for line in err.splitlines()][1:] == [
        "m version 1 is available",
        "m version 1 is unloaded",
    ]


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.slow
def test_a_call_that_does_not_end_is_given_up(base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with (
        # The model's own time ends it.
        running(
            rest=True, model_name="m", model_base_path=str(base), rest_api_timeout_in_ms=5000
        ) as server,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        body = announced(60, tmp_path / "begun")
        waiting = threads.submit(call, server.rest_port, "POST", PREDICT, body)
        until((tmp_path / "begun").exists)
        assert not server.server.stop(1)
        refused(waiting.result(), 503, "The server stopped before this call was answered")


def test_a_port_that_is_taken(base: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ModelServer(Options(model_base_path=str(base), port=0, rest_api_port=port))
        try:
            with pytest.raises(ServingError) as caught:
                server.start()
        finally:
            server.stop(0)
    assert caught.value.code == Code.UNAVAILABLE
    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_it_listens_on_the_loopback_address_alone(served: Running) -> None:
    with socket.create_connection(("127.0.0.1", served.rest_port), 10):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", served.rest_port), 10)


def test_a_model_that_takes_too_long(base: pathlib.Path) -> None:
    with running(
        model_name="m",
        model_base_path=str(base),
        rest=True,
        rest_api_timeout_in_ms=300,
    ) as server:
        reply = call(server.rest_port, "POST", PREDICT, slow(20))
        refused(reply, 504, "Timed out waiting for notification")
        assert post(server.rest_port, PREDICT, slow(0)) == {"predictions": [3.0]}


def test_pages_of_other_origins(base: pathlib.Path, served: Running) -> None:
    cors = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST, GET",
        "access-control-allow-headers": "Content-Type",
    }
    with running(
        model_name="m",
        model_base_path=str(base),
        rest=True,
        rest_api_enable_cors_support=True,
    ) as server:
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        for reply, status in (
            (call(server.rest_port, "OPTIONS", PREDICT, headers=asked), 200),
            (call(server.rest_port, "POST", PREDICT, slow(0)), 200),
            (call(server.rest_port, "POST", PREDICT, "{"), 400),
        ):
            assert reply.status == status
            assert cors.items() <= reply.headers.items()
    reply = call(served.rest_port, "GET", "/v1/models/tf1")
    assert not cors.keys() & reply.headers.keys()


def test_calls_run_beside_each_other(base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with (
        running(
            model_name="m",
            model_base_path=str(base),
            rest=True,
            # The real server keeps one of them for its sockets.
            rest_api_num_threads=3,
        ) as server,
        concurrent.futures.ThreadPoolExecutor(8) as threads,
    ):
        waiting = threads.submit(post, server.rest_port, PREDICT, announced(3, tmp_path / "begun"))
        until((tmp_path / "begun").exists)
        quick = [threads.submit(post, server.rest_port, PREDICT, slow(0)) for _ in range(20)]
        assert {tuple(reply.result()["predictions"]) for reply in quick} == {(3.0,)}
        assert not waiting.done()
        assert waiting.result() == {"predictions": [3.0]}


def test_many_calls_on_one_connection(served: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.rest_port, timeout=60)
    for _ in range(5):
        connection.request("POST", "/v1/models/tf1:predict", b'{"instances": [2.0]}')
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        connection.request("POST", "/v1/models/tf1:predict", b"{")
        response = connection.getresponse()
        assert response.status == 400
        response.read()
    connection.close()
