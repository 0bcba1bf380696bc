"""Batching over a socket: queues, deadlines, and what happens to what waits."""

import os
import pathlib
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.batching.session import BatchedServable
from serving.model_server.calls.predict import predict
from serving.model_server.flags import Options
from serving.model_server.servables.servable import SessionSettings, load_servable
from serving.model_server.server import ModelServer
from tests.support.batching import NEVER, Batched, batch_threads, waiting, x
from tests.support.model_server import publish, refused, running
from tests.support.requests import predict_request
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def test_a_full_queue_is_unavailable(batched: Batched) -> None:
    server = batched(2, NEVER, 1)
    first = server.predictions.Predict.future(predict_request("m", x(1)), 60)
    until(lambda: waiting(server) == 1)
    with refused(
        grpc.StatusCode.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches "
        "enqueued and max_enqueued_batches is 1",
    ):
        server.predict("m", x(2, 3))
    # The one that waits is not lost.
    assert server.predict("m", x(4))["rows"].tolist() == [2]
    assert list(first.result().outputs["y"].float_val) == [2.5]


def test_a_deadline_that_passes_in_the_queue(batched: Batched) -> None:
    server = batched(2, 200_000)
    # What a client sees is gRPC's own; what the server answers is as TF Serving's session does.
    with pytest.raises(ServingError) as caught:
        predict(server.server.core, predict_request("m", x(1)), 0.05)
    assert str(caught.value) == (
        "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
    )
    with pytest.raises(grpc.RpcError) as over:
        server.predict("m", x(1), timeout=0.05)
    error: Any = over.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_batch_has_the_time_of_the_most_patient(batched: Batched) -> None:
    server = batched(2, NEVER)
    with futures.ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        hasty = pool.submit(predict, server.server.core, predict_request("m", x(1)), 0.05)
        until(lambda: waiting(server) == 1 and time.monotonic() > start + 0.1)
        assert server.predict("m", x(2))["rows"].tolist() == [2]
        assert list(hasty.result(60).outputs["y"].float_val) == [2.5]


def test_a_run_that_takes_too_long(
    half_plus: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1", half_plus(2.0, "tf2"))
    with running(
        model_name="m", model_base_path=str(tmp_path / "m"), enable_batching=True
    ) as server:
        slow = {"x": np.array([1], np.float32), "seconds": np.array([30], np.float32)}
        with pytest.raises(ServingError) as caught:
            predict(server.server.core, predict_request("m", slow, "slow"), 0.5)
        assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_closing_runs_what_waits(told: pathlib.Path) -> None:
    scheduler = BatchScheduler(1, "closing")
    inner = load_servable(told, SessionSettings())
    servable = BatchedServable(inner, BatchingParameters(4, NEVER), scheduler)
    signature = servable.signatures["serving_default"]
    feed, fetch = signature.inputs["x"].name, signature.outputs["y"].name
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(servable.run, {feed: np.array([1], np.float32)}, [fetch])
        until(lambda: any(queue.due() for queue in scheduler._queues))
        servable.close()
        assert answer.result(60)[0].tolist() == [2.5]
    assert not scheduler._queues
    assert inner._session is None
    assert scheduler.stop(60)


def test_versions_change_under_load_without_a_failed_request(batched: Batched) -> None:
    server = batched(4, 2000)
    stop = threading.Event()

    def ask(value: int) -> int:
        asked = 0
        while not stop.is_set():
            assert server.predict("m", x(value))["y"].tolist() == [value / 2 + 2]
            asked += 1
        return asked

    with futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask, value) for value in range(8)]
        try:
            for number in (2, 3, 4):
                publish(batched.root / "m" / str(number), batched.model)
                server.until("m", {number: "AVAILABLE"} | dict.fromkeys(range(1, number), "END"))
        finally:
            stop.set()
        assert all(client.result(60) for client in clients)


def test_the_threads_end_with_the_server(base: pathlib.Path) -> None:
    server = ModelServer(Options(model_base_path=str(base), port=0, enable_batching=True))
    server.start()
    count = len(os.sched_getaffinity(0))
    assert batch_threads("model_server_batch_threads_") == [
        f"model_server_batch_threads_{number}" for number in range(count)
    ]
    assert server.stop(10)
    assert not batch_threads("model_server_batch_threads_")
