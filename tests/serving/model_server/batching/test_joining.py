"""Batching over a socket: what is run together, and what each client is answered."""

import dataclasses
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.batching.parameters import read_batching_parameters
from serving_configs.server.batching import Batching
from signatures.warmup import REQUESTS
from tests.support.batching import NEVER, Batched, x
from tests.support.model_server import Running, publish, refused, running
from tests.support.requests import predict_request

pytestmark = pytest.mark.slow

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def together(server: Running, requests: Sequence[predict_pb2.PredictRequest]) -> list[Any]:
    """The answers to requests sent at once: dictionaries of arrays, or errors."""
    calls = [server.predictions.Predict.future(request, 60) for request in requests]
    answers: list[Any] = []
    for call in calls:
        error = call.exception()
        if error is not None:
            answers.append((error.code(), error.details()))
            continue
        outputs = call.result().outputs
        answers.append({key: tf.make_ndarray(value) for key, value in outputs.items()})
    return answers


def test_requests_are_joined_and_each_gets_its_own(batched: Batched) -> None:
    server = batched(4, NEVER)
    requests = [predict_request("m", x(*values)) for values in [(1,), (2, 3), (4,)]]
    answers = together(server, requests)
    assert [answer["y"].tolist() for answer in answers] == [[2.5], [3.0, 3.5], [4.0]]
    assert [answer["rows"].tolist() for answer in answers] == [[4], [4, 4], [4]]
    assert [answer["sum"].tolist() for answer in answers] == [[10], [10, 10], [10]]


def test_strings_and_several_inputs_are_joined(batched: Batched) -> None:
    server = batched(2, NEVER)
    inputs = [
        {"s": np.array([b"a"], object), "m": np.array([[1, 2]], np.float32)},
        {"m": np.array([[3, 4]], np.float32), "s": np.array([b"longer"], object)},
    ]
    one, two = together(server, [predict_request("m", i, "pair") for i in inputs])
    assert (one["loud"].tolist(), one["total"].tolist()) == ([b"a!"], [3])
    assert (two["loud"].tolist(), two["total"].tolist()) == ([b"longer!"], [7])


def test_without_parameters_requests_are_batched_as_they_come(base: pathlib.Path) -> None:
    with running(model_name="m", model_base_path=str(base), enable_batching=True) as server:

        def ask(first: int) -> list[float]:
            return [float(server.predict("m", x(first + i))["y"][0]) for i in range(20)]

        answers: list[float] = []
        with futures.ThreadPoolExecutor(16) as pool:
            for part in pool.map(ask, range(0, 320, 20)):
                answers += part
        # Every client has the answer to what it asked, and none is lost.
        assert answers == [i / 2 + 2 for i in range(320)]
        with refused(INVALID, "Task size 1001 is larger than maximum input batch size 1000"):
            server.predict("m", x(*range(1001)))


def test_different_outputs_are_never_in_one_batch(batched: Batched) -> None:
    server = batched(2, 300_000)
    requests = [predict_request("m", x(1)) for _ in range(2)]
    requests[0].output_filter.append("rows")
    one, two = together(server, requests)
    assert set(one) == {"rows"}
    assert one["rows"].tolist() == two["rows"].tolist() == [1]
    # The order of a filter does not make another set.
    requests[0].output_filter[:] = ["sum", "rows"]
    requests[1].output_filter[:] = ["rows", "sum"]
    for answer in together(server, requests):
        assert (answer["rows"].tolist(), answer["sum"].tolist()) == ([2], [2])


def test_batches_are_filled_up(batched: Batched) -> None:
    server = batched(8, 0, allowed_batch_sizes=(1, 4, 8))
    answer = server.predict("m", x(3, 5))
    # Two more rows, which are the first one again.
    assert answer["rows"].tolist() == [4, 4]
    assert answer["sum"].tolist() == [14, 14]
    assert answer["y"].tolist() == [3.5, 4.5]
    assert server.predict("m", x(3))["rows"].tolist() == [1]


def test_different_shapes_fail_unless_they_are_padded(batched: Batched) -> None:
    def requests() -> list[predict_pb2.PredictRequest]:
        name = np.array([b""], object)
        return [
            predict_request("m", {"s": name, "m": np.ones((1, size), np.float32)}, "pair")
            for size in (2, 3)
        ]

    answers = together(batched(2, NEVER), requests())
    for code, message in answers:
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "have different shapes and padding is turned off. Set pad_variable" in message
    answers = together(batched(2, NEVER, pad_variable_length_inputs=True), requests())
    assert [answer["width"].tolist() for answer in answers] == [[3], [3]]
    # The client's array ends with its own first element again.
    assert [answer["total"].tolist() for answer in answers] == [[3], [3]]


def test_large_requests_are_split(batched: Batched) -> None:
    server = batched(10, 0, enable_large_batch_splitting=True, max_execution_batch_size=4)
    answer = server.predict("m", x(*range(10)))
    assert answer["rows"].tolist() == [4] * 8 + [2] * 2
    assert answer["y"].tolist() == [i / 2 + 2 for i in range(10)]
    with refused(INVALID, "Task size 11 is larger than maximum input batch size 10"):
        server.predict("m", x(*range(11)))
    with pytest.raises(grpc.RpcError, match="x must be positive"):
        server.predict("m", x(1, 2, 3, 4, 5, -1), "positive")


def test_large_requests_are_split_with_published_parameters(
    batched: Batched, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "batching_params.pbtxt"
    path.write_text(Batching((1, 2), 1000, 20).as_text())
    server = batched(**dataclasses.asdict(read_batching_parameters(path)))
    answer = server.predict("m", x(*range(39)))
    # The last one is alone, without a row to fill up.
    assert answer["rows"].tolist() == [2] * 38 + [1]
    assert answer["y"].tolist() == [i / 2 + 2 for i in range(39)]
    with refused(INVALID, "Task size 41 is larger than maximum input batch size 40"):
        server.predict("m", x(*range(41)))


def test_what_cannot_be_batched(batched: Batched) -> None:
    server = batched(8)
    with refused(INVALID, "Batching Run() input tensors must have at least one dimension"):
        server.predict("m", {"x": np.float32(1)})
    unequal = {"s": np.array([b"", b""], object), "m": np.zeros((3, 1), np.float32)}
    with refused(INVALID, "Batching Run() input tensors must have equal 0th-dimension size"):
        server.predict("m", unequal, "pair")
    failed = grpc.StatusCode.FAILED_PRECONDITION
    with refused(failed, "Batched output tensor has 0 dimensions"):
        server.predict("m", x(1), "scalar")
    with refused(
        failed,
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
        "of the input tensors",
    ):
        server.predict("m", x(1, 2), "short")
    assert server.predict("m", x(1))["y"] == [2.5]


def test_a_request_without_rows_is_answered_at_once(batched: Batched) -> None:
    server = batched(4, NEVER)
    # The real one's queues do not come to an end with it.
    assert server.server
    assert server.predict("m", x())["y"].shape == (0,)


def test_one_that_fails_fails_for_all_of_its_batch(batched: Batched) -> None:
    server = batched(2, NEVER)
    requests = [predict_request("m", x(value), "positive") for value in (1, -1)]
    (code, message), other = together(server, requests)
    assert code == INVALID
    assert "x must be positive" in message
    assert other == (code, message)
    # And for none of the next one.
    for answer in together(server, [requests[0], requests[0]]):
        assert answer["y"].tolist() == [1]


def test_warm_up_goes_through_the_batching(batched: Batched) -> None:
    server = batched(2, 0)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("m", x(1, 2, 3)))
    version = publish(batched.root / "2", batched.model)
    (version / REQUESTS).parent.mkdir()
    with tf.io.TFRecordWriter(str(version / REQUESTS)) as writer:
        writer.write(log.SerializeToString())
    version.rename(batched.root / "m" / "2")
    server.until("m", {2: "END", 1: "AVAILABLE"})
    newest, _ = server.status("m").model_version_status
    assert newest.status.error_message == ("Task size 3 is larger than maximum input batch size 2")
