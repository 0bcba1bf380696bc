"""Calls and threads: those that wait are answered in their turn, those given up are not run."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.errors import Code
from serving.model_server import grpc_server
from serving.model_server.grpc_server import PREDICTION_SERVICE, GrpcServer
from serving.model_server.servables.core import ServerCore
from tests.support.model_server import Running
from tests.support.requests import predict_request
from tests.support.waiting import until

X = {"x": np.array([2.0], np.float32)}


class Gate:
    """An observer that keeps the thread of the first call until it is opened."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Code]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, call: str, request: Any, code: Code, seconds: float) -> None:
        self.seen.append((request.model_spec.signature_name if request else "not read", code))
        self.entered.set()
        assert self.opened.wait(60)


@pytest.fixture
def core(served: Running) -> ServerCore:
    return served.server.core


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def test_calls_wait_for_a_thread(core: ServerCore, gate: Gate) -> None:
    server = GrpcServer(core, 1, observer=gate)
    port = server.listen("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call(signature: str, timeout: float = 60.0) -> Any:
            return stub.Predict.future(predict_request("tf1", X, signature), timeout)

        calls = [call("serving_default")]
        assert gate.entered.wait(60)
        # While the only thread is busy, one call waits and two are given up.
        calls.append(call("serving_default"))
        cancelled, late = call("cancelled"), call("late", 0.2)
        cancelled.cancel()
        assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        # An unknown method is answered without a thread, after all that the server was sent before.
        with pytest.raises(grpc.RpcError, match="Method not found"):
            channel.unary_unary(f"/{PREDICTION_SERVICE}/Unknown")(b"", timeout=60)
        calls.append(call("serving_default"))
        assert not any(waiting.done() for waiting in calls)
        gate.opened.set()
        for waiting in calls:
            assert list(waiting.result().outputs["y"].float_val) == [3.0]
    assert server.stop(60)
    assert [one for one in gate.seen if one[0] != "not read"] == [("serving_default", Code.OK)] * 3


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_call_that_is_given_up_as_a_thread_takes_it_is_not_run(
    how: str, core: ServerCore, gate: Gate
) -> None:
    gate.opened.set()
    ran: list[Any] = []
    answer = GrpcServer(core, 1, observer=gate)._handler(
        "Predict", predict_pb2.PredictRequest, lambda _, request, timeout: ran.append(request)
    )
    taken, answered = threading.Event(), threading.Event()

    def too_late(data: bytes, context: Any) -> bytes:
        """Hands a call over when it has been given up."""
        given_up = threading.Event()
        assert context.add_callback(given_up.set)
        taken.set()
        try:
            if how == "cancelled":
                assert given_up.wait(60)
            else:
                time.sleep(context.time_remaining())
            return answer(data, context)
        finally:
            answered.set()

    method = grpc.unary_unary_rpc_method_handler(too_late)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = predict_request("tf1", X).SerializeToString()
        call = channel.unary_unary("/s/m").future(request, 60.0 if how == "cancelled" else 1.0)
        assert taken.wait(60)
        if how == "cancelled":
            call.cancel()
        assert answered.wait(60)
    server.stop(0).wait()
    assert not ran
    ((name, code),) = gate.seen
    assert name == "not read"
    assert code in (Code.CANCELLED, Code.DEADLINE_EXCEEDED)


def test_a_call_whose_time_is_over_once_it_is_read_is_not_run(
    core: ServerCore, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.opened.set()
    ran: list[Any] = []
    parsed = grpc_server._parsed

    def slowly(request_type: Any, data: bytes) -> Any:
        time.sleep(1.0)
        return parsed(request_type, data)

    monkeypatch.setattr(grpc_server, "_parsed", slowly)
    monkeypatch.setitem(
        grpc_server._CALLS[PREDICTION_SERVICE],
        "Predict",
        (predict_pb2.PredictRequest, lambda _, request, timeout: ran.append(request)),
    )
    server = GrpcServer(core, 1, observer=gate)
    port = server.listen("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        error: Any = stub.Predict.future(predict_request("tf1", X, "late"), 0.5).exception()
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: bool(gate.seen))
        assert server.stop(60)
    assert not ran
    ((name, code),) = gate.seen
    assert name == "late"
    assert code in (Code.CANCELLED, Code.DEADLINE_EXCEEDED)
