"""Limits, deadlines and retries of the clients, on real connections."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from serving import Code
from serving.client import Client, ClientError
from serving.client.asynchronous import AsyncClient
from serving.client.channels import RETRIES
from tests.support.model_server import Running
from tests.support.paths import REPOSITORY

ATTEMPTS = RETRIES["methodConfig"][0]["retryPolicy"]["maxAttempts"]
PHOTO = REPOSITORY / "tests" / "data" / "photos" / "cat.jpg"
X = {"x": np.array([2.0], np.float32)}
SLOW = {**X, "seconds": np.array([20.0], np.float32)}


class Failing:
    """A server whose every call ends with `code`, but for those after the first `failures`."""

    def __init__(self, code: grpc.StatusCode, failures: int) -> None:
        self.code = code
        self.failures = failures
        self.calls: list[str] = []
        self.port = 0

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: self._answer(handler_call_details.method, context)
        )

    def _answer(self, method: str, context: Any) -> bytes:
        self.calls.append(method.rpartition("/")[2])
        if len(self.calls) <= self.failures:
            context.abort(self.code, "not now")
        reply: bytes = predict_pb2.PredictResponse().SerializeToString()
        return reply


@contextlib.contextmanager
def failing(code: grpc.StatusCode, failures: int) -> Iterator[Failing]:
    state = Failing(code, failures)
    with serving(state.service) as state.port:
        yield state


@contextlib.contextmanager
def answering(answer: Callable[[bytes, Any], bytes]) -> Iterator[int]:
    """A server that answers every call in the same way -> its port."""
    with serving(lambda _: grpc.unary_unary_rpc_method_handler(answer)) as port:
        yield port


@contextlib.contextmanager
def serving(service: Callable[[Any], Any]) -> Iterator[int]:
    handler = type("Handler", (grpc.GenericRpcHandler,), {"service": lambda _, d: service(d)})
    server = grpc.server(
        futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)]
    )
    server.add_generic_rpc_handlers((handler(),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    # The second is more than gRPC keeps for another attempt if it is not told to.
    [1, 1_000_000],
)
def test_a_call_that_ended_unavailable_is_sent_again(size: int) -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, ATTEMPTS - 1) as server:
        with Client(f"localhost:{server.port}", "m") as client:
            assert client.predict({"x": np.zeros(size, np.float32)}) == {}
        assert server.calls == ["Predict"] * ATTEMPTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda c: c.classify(PHOTO), "Classify"),
        (lambda c: c.metadata(), "GetModelMetadata"),
        (lambda c: c.status(), "GetModelStatus"),
    ],
)
def test_every_call_is_tried_so_often_and_no_more(
    call: Callable[[Client], Any], method: str
) -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 100) as server:
        address = f"localhost:{server.port}"
        with Client(address, "m") as client, pytest.raises(ClientError) as caught:
            call(client)
        assert server.calls == [method] * ATTEMPTS
    assert (caught.value.code, caught.value.message) == (Code.UNAVAILABLE, "not now")
    assert str(caught.value) == f"{address}, model m: UNAVAILABLE: not now"


@pytest.mark.slow
def test_asyncio_tries_again_as_well() -> None:
    async def ask(port: int) -> Any:
        async with AsyncClient(f"localhost:{port}", "m") as client:
            return await client.predict(X)

    with failing(grpc.StatusCode.UNAVAILABLE, ATTEMPTS - 1) as server:
        assert asyncio.run(ask(server.port)) == {}
        assert server.calls == ["Predict"] * ATTEMPTS


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code.name not in ("OK", "UNAVAILABLE")],
    ids=lambda code: code.name,
)
def test_no_other_status_is_tried_again(code: grpc.StatusCode) -> None:
    with failing(code, 100) as server:
        with Client(f"localhost:{server.port}", "m") as client:
            with pytest.raises(ClientError) as caught:
                client.predict(X)
            assert caught.value.code.name == code.name
        assert len(server.calls) == 1


def test_retries_can_be_left_out() -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 100) as server:
        with (
            Client(f"localhost:{server.port}", "m", retries=False) as client,
            pytest.raises(ClientError),
        ):
            client.predict(X)
        assert len(server.calls) == 1


def test_no_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with Client(address, "m", retries=False) as client, pytest.raises(ClientError) as caught:
        client.status()
    error = caught.value
    assert (error.code, error.server, error.model) == (Code.UNAVAILABLE, address, "m")
    assert str(error).startswith(f"{address}, model m: UNAVAILABLE: ")
    assert str(error).endswith("; no server listens there, or one that is still loading its models")


def test_replies_of_more_than_grpcs_limit(served: Running) -> None:
    with Client(f"localhost:{served.port}", "tf2") as client:
        found = client.predict({"x": np.arange(2_000_000, dtype=np.float32)}, outputs=["y"])["y"]
        assert found.nbytes > 4 * 2**20
        np.testing.assert_array_equal(found[-2:], np.array([1_000_001.0, 1_000_001.5], np.float32))


@pytest.mark.slow
def test_deadlines(served: Running) -> None:
    with Client(f"localhost:{served.port}", "tf2", timeout=0.5) as client:
        with pytest.raises(ClientError) as caught:
            client.predict(SLOW, "slow")
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        # A call's own time goes before the client's.
        assert client.predict({**X, "seconds": np.array([1.0], np.float32)}, "slow", timeout=60)[
            "y"
        ] == [3.0]
    with (
        Client(f"localhost:{served.port}", "tf2") as client,
        pytest.raises(ClientError) as caught,
    ):
        client.predict(SLOW, "slow", timeout=0.5)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


@pytest.mark.slow
def test_what_is_sent_again_shares_the_time_of_the_call() -> None:
    left: list[float] = []

    def answer(_: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        # The first takes half of the time; the next one would take more than all.
        while context.is_active() and (len(left) > 1 or context.time_remaining() > 1):
            time.sleep(0.01)
        return context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "no image\n\t [[{{node map/while}}]]"
        )

    with answering(answer) as port, Client(f"localhost:{port}", "m") as client:
        for images in (PHOTO, [PHOTO, PHOTO]):
            left.clear()
            with pytest.raises(ClientError) as caught:
                client.classify(images, timeout=2)
            # Nothing has been found out: it is the error of the call itself.
            assert caught.value.message.startswith("no image")
            cause: Any = caught.value.__cause__
            assert cause.code == Code.DEADLINE_EXCEEDED
            first, second = left
            # gRPC rounds up.
            assert first < 2.1
            assert second < 1.1
