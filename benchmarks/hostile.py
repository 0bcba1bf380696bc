"""Hostile requests beside a client that behaves well, on one server."""

import contextlib
import functools
import http.client
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.model_server.launch import ServerProcess

from .fuzz_inputs import MODEL, photographs, scan_bomb
from .process_tree import resident
from .serving_local import predict_request
from .table import Result

_ATTACKERS = 3
# Seconds of load before the first measurement: what a server needs once, it has then.
_WARM = 20.0
_PAUSE = 0.05


def hostile_load(server: ServerProcess, seconds: float) -> list[Result]:
    """Sends both kinds for some seconds.

    Returns:
        The answers that the good client lost, and the growth of the server's memory.
    """
    ended = threading.Event()
    attacks: list[int] = []
    good: list[float] = []
    lost: list[str] = []
    threads = [
        threading.Thread(target=_attack, args=(server, number, ended, attacks))
        for number in range(_ATTACKERS)
    ]
    threads.append(threading.Thread(target=_behave, args=(server, ended, good, lost)))
    for thread in threads:
        thread.start()
    memory: list[float] = []
    end = time.monotonic() + seconds
    try:
        ended.wait(min(_WARM, seconds / 4))
        while time.monotonic() < end and server.process.poll() is None:
            memory.append(resident(server.process.pid) / 2**20)
            ended.wait(1.0)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    tenth = max(1, len(memory) // 10)
    first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    return [
        Result(
            f"answers that a good client lost, of {len(good) + len(lost)}, "
            f"beside {sum(attacks)} hostile requests in {seconds / 60:g} minutes",
            str(len(lost)) + (f": {lost[0]}" if lost else ""),
            "0",
            bool(good) and not lost,
        ),
        Result(
            "the longest that it waited for an answer",
            f"{max(good, default=0):.1f} s",
            "none",
            True,
        ),
        Result(
            "memory of the server at the end, of that at the start",
            f"{last:.0f} MiB of {first:.0f} MiB",
            "110 %",
            last <= 1.1 * first,
        ),
    ]


def _behave(
    server: ServerProcess, ended: threading.Event, good: list[float], lost: list[str]
) -> None:
    """Sends a photograph again and again, and compares the answers."""
    photo = np.array([photographs()[1]], object)
    request = predict_request(MODEL, "bytes_logits", image_bytes=photo)
    expected = None
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        while not ended.is_set():
            start = time.monotonic()
            try:
                reply = stub.Predict(request, 120)
            except grpc.RpcError as error:
                failed: Any = error
                lost.append(f"{failed.code().name}: {failed.details()[:100]}")
                continue
            logits = list(reply.outputs["logits"].float_val)
            expected = expected or logits
            if np.allclose(logits, expected, atol=1e-4):
                good.append(time.monotonic() - start)
            else:
                lost.append("another answer")
            ended.wait(_PAUSE)


def _attack(server: ServerProcess, number: int, ended: threading.Event, attacks: list[int]) -> None:
    choose = random.Random(number)
    sent = 0
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        kinds = _kinds(server, channel, choose)
        while not ended.is_set():
            with contextlib.suppress(grpc.RpcError, OSError, http.client.HTTPException):
                choose.choice(kinds)()
            sent += 1
            ended.wait(_PAUSE)
    attacks.append(sent)


def _kinds(
    server: ServerProcess, channel: Any, choose: random.Random
) -> list[Callable[[], object]]:
    """Requests to choose among."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    bomb = predict_request(MODEL, "bytes_logits", image_bytes=np.array([_bomb()], object))
    text = predict_request(MODEL, "bytes_logits", image_bytes=np.array([b"x"], object))

    def shaped(*sizes: int) -> Any:
        request = type(text)()
        request.CopyFrom(text)
        tensor = request.inputs["image_bytes"]
        del tensor.tensor_shape.dim[:]
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        return request

    requests = [bomb, text, shaped(*[1] * 33), shaped(20_000_000), shaped(250_000_000)]

    def unknown_model() -> None:
        predictions.Predict(predict_request(f"none_{choose.random()}", ""), 10)

    def reload() -> None:
        request = model_management_pb2.ReloadConfigRequest()
        config = request.config.model_config_list.config
        # The server's own model stays, and others have no versions.
        entry = config.add(name=MODEL, base_path=server_base(server), model_platform="tensorflow")
        for _ in range(20):
            entry = config.add(name=f"none_{choose.random()}", base_path="/none")
            entry.model_platform = "tensorflow"
        models.HandleReloadConfigRequest(request, 1)

    def given_up() -> None:
        predictions.Predict.future(bomb, 10).cancel()

    return [
        *(functools.partial(predictions.Predict, request, 10) for request in requests),
        unknown_model,
        reload,
        given_up,
        functools.partial(_connect, server, b"Content-Length: 99999999999\r\n\r\n"),
        functools.partial(_connect, server, b"Content-Length: 9000\r\n\r\n" + b"{" * 100),
        functools.partial(_connect, server, b""),
        functools.partial(_rest, server, "/v1/models/none:predict", b"[" * 100_000),
        functools.partial(_rest, server, "/monitoring/prometheus/metrics", b""),
    ]


@functools.cache
def _bomb() -> bytes:
    return scan_bomb()


def server_base(server: ServerProcess) -> str:
    """The base path in the command of a server."""
    flags = [str(argument) for argument in server.process.args]  # type: ignore[union-attr]
    (found,) = (flag for flag in flags if flag.startswith("--model_base_path="))
    return found.partition("=")[2]


def _connect(server: ServerProcess, rest: bytes) -> None:
    """Begins a REST call and goes away in the middle of it."""
    with socket.create_connection(("127.0.0.1", server.rest_port), 10) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\n" + rest)
        time.sleep(0.2)


def _rest(server: ServerProcess, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body)
        connection.getresponse().read()
    finally:
        connection.close()
