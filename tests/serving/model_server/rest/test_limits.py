"""Bodies, connections and hosts that the REST server does not put up with."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.model_server.rest import body, connection
from serving.model_server.rest.api import Reply
from serving.model_server.rest.server import RestServer
from serving_configs.server.monitoring import METRICS_PATH
from tests.support.model_server import Running
from tests.support.rest_calls import call, post, refused
from tests.support.waiting import until

PREDICT = "/v1/models/tf1:predict"


@pytest.fixture(autouse=True)
def _still_answers(served: Running) -> Iterator[None]:
    yield
    assert post(served.rest_port, PREDICT, {"instances": [2.0]}) == {"predictions": [3.0]}


def raw(port: int, *sent: bytes) -> bytes:
    """What comes back for some bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), 60) as connected:
        for part in sent:
            connected.sendall(part)
        received = b""
        while data := connected.recv(65536):
            received += data
        return received


def head(*headers: str) -> bytes:
    lines = [f"POST {PREDICT} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_a_length_beyond_reason_is_refused_before_the_body(served: Running) -> None:
    # Nothing of the body is sent, and the connection is closed.
    for length in (body.MOST_BODY + 1, 2**40, 10**4000):
        received = raw(served.rest_port, head(f"Content-Length: {length}"))
        if length < 10**4000:
            assert received.startswith(b"HTTP/1.1 413 ")
            message = f"Content-Length {length}: expected 104857600 bytes at most; gRPC takes more"
            assert message.encode() in received
        else:
            assert received.startswith(b"HTTP/1.1 4")


def test_a_body_without_a_length_that_does_not_end(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "MOST_BODY", 1000)
    received = raw(
        served.rest_port, head("Transfer-Encoding: chunked"), b"400\r\n" + b" " * 0x400 + b"\r\n"
    )
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"A body without Content-Length: expected 1000 bytes at most" in received


def test_a_body_that_does_not_come(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SECONDS", 0.2)
    received = raw(served.rest_port, head("Content-Length: 100"), b'{"instances"')
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"The body did not come in 0.2 seconds" in received


def test_bodies_that_would_fill_the_memory(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = served.server._rest
    assert rest is not None
    monkeypatch.setattr(body, "MOST_HELD", 100)
    reply = call(served.rest_port, "POST", PREDICT, " " * 101)
    refused(reply, 503, "Other bodies fill the memory; try again later")
    assert post(served.rest_port, PREDICT, '{"instances": [2.0]}') == {"predictions": [3.0]}
    # What was held has been given back.
    until(lambda: rest._bodies._held == 0)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", head()[:-2]])
def test_headers_that_do_not_come(
    served: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    assert raw(served.rest_port, sent) == b""
    # The time is that of each request of a connection, and not that of a call.
    kept = http.client.HTTPConnection("127.0.0.1", served.rest_port, timeout=60)
    for _ in range(2):
        kept.request("POST", PREDICT, b'{"instances": [2.0]}')
        assert kept.getresponse().read()
    kept.sock.sendall(sent or b"G")
    assert kept.sock.recv(100) == b""
    kept.close()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8501", "[::1]"])
def test_names_of_this_machine(served: Running, host: str) -> None:
    reply = call(served.rest_port, "GET", "/v1/models/tf1", headers={"Host": host})
    assert reply.status == 200


@pytest.mark.parametrize("host", ["elsewhere.example", "localhost.elsewhere.example:80", "[::2]"])
def test_names_that_someone_made_to_mean_this_machine(served: Running, host: str) -> None:
    for path in ("/v1/models/tf1", METRICS_PATH):
        reply = call(served.rest_port, "GET", path, headers={"Host": host})
        expected = "expected localhost, 127.0.0.1, ::1, 127.0.0.1"
        refused(reply, 400, f"Host {host!r}: {expected}; --host=0.0.0.0 answers any name")


def test_a_request_without_a_host(served: Running) -> None:
    """As the health check of a container sends it."""
    received = raw(served.rest_port, b"GET /v1/models/tf1 HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


class Waiting:
    """A REST API whose calls wait for an event."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.opened = threading.Event()

    def answer(self, method: str, path: str, body: bytes, compressed: bool = False) -> Reply:
        self.run.append(path)
        assert self.opened.wait(60)
        return Reply(200, b"{}")


@pytest.fixture
def waiting() -> Iterator[tuple[Waiting, int, Callable[[], Any]]]:
    """The API, its port and the metrics' event."""
    api, metrics = Waiting(), threading.Event()

    def page() -> str:
        assert metrics.wait(60)
        return "page"

    server = RestServer(api, 1, metrics=("/metrics", page))  # type: ignore[arg-type]
    port = server.listen("127.0.0.1", 0)
    server.start()
    yield api, port, metrics.set
    api.opened.set()
    metrics.set()
    server.begin_stop(10)
    assert server.stop()


def asked(port: int, path: str) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), 60)
    connected.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connected


def test_a_call_whose_client_has_gone_is_not_run(waiting: Any) -> None:
    api, port, _ = waiting
    with asked(port, "/v1/first") as first:
        until(lambda: api.run == ["/v1/first"])
        left = asked(port, "/v1/left")
        with asked(port, "/v1/last") as last:
            # It waits for the only thread when its client goes.
            until(lambda: api_queue(api, port) >= 0)
            left.close()
            first_reply = threading.Thread(target=first.recv, args=(100,))
            first_reply.start()
            # Answered by the event loop, after it has seen that the client has gone.
            for _ in range(20):
                assert call(port, "GET", "/nothing").status == 404
            api.opened.set()
            assert last.recv(100).startswith(b"HTTP/1.1 200 ")
            first_reply.join()
    assert api.run == ["/v1/first", "/v1/last"]


def api_queue(api: Waiting, port: int) -> int:
    assert call(port, "GET", "/nothing").status == 404
    return len(api.run)


def test_writing_the_metrics_keeps_no_call_waiting(waiting: Any) -> None:
    api, port, finish = waiting
    api.opened.set()
    with asked(port, "/metrics") as metrics:
        assert call(port, "GET", "/v1/models").status == 200
        finish()
        assert metrics.recv(1000).startswith(b"HTTP/1.1 200 ")
