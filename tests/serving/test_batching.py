"""Batching over a socket: what is run together, what each client is answered, what is refused."""

import contextlib
import dataclasses
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.batch_scheduler import BatchScheduler
from serving.batching import BatchedServable
from serving.batching_parameters import BatchingParameters
from serving.errors import Code, ServingError
from serving.flags import Options
from serving.model_server import ModelServer
from serving.predict import predict
from serving.servable import SessionSettings, load_servable
from serving.warmup import REQUESTS
from tests.serving.conftest import Running, predict_request, publish, refused, running

INVALID = grpc.StatusCode.INVALID_ARGUMENT

# Longer than any test takes: what is run was a full batch.
NEVER = 3600 * 1_000_000


class Told(tf.Module):
    """Signatures that tell of the batch they were run in."""

    def __init__(self) -> None:
        super().__init__()
        self.two = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def told(self, x: Any) -> dict[str, Any]:
        """The rows of the run and the sum of all its values, beside an answer for each row."""
        alike = tf.ones_like(x)
        rows = tf.cast(tf.size(x), tf.float32)
        return {"y": x / 2 + self.two, "rows": alike * rows, "sum": alike * tf.reduce_sum(x)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="s"),
            tf.TensorSpec([None, None], tf.float32, name="m"),
        ]
    )
    def pair(self, s: Any, m: Any) -> dict[str, Any]:
        width = tf.fill([tf.shape(m)[0]], tf.shape(m)[1])
        return {"loud": s + "!", "width": width, "total": tf.reduce_sum(m, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(self, x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "x must be positive")]):
            return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scalar(self, x: Any) -> dict[str, Any]:
        return {"y": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def short(self, x: Any) -> dict[str, Any]:
        return {"y": x[:1]}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("told") / "model"
    model = Told()
    signatures = {
        "serving_default": model.told,
        "pair": model.pair,
        "positive": model.positive,
        "scalar": model.scalar,
        "short": model.short,
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)
    return directory


def text(parameters: BatchingParameters) -> str:
    """Parameters as a text proto."""
    lines = []
    for name, value in dataclasses.asdict(parameters).items():
        if name == "allowed_batch_sizes":
            lines += [f"{name}: {size}" for size in value]
        elif name == "pad_variable_length_inputs":
            lines.append(f"{name}: {str(value).lower()}")
        elif isinstance(value, str):
            lines.append(f'{name} {{ value: "{value}" }}')
        elif value is not None:
            lines.append(f"{name} {{ value: {str(value).lower()} }}")
    return "\n".join(lines)


@dataclasses.dataclass
class Batched:
    """Starts servers with batching, and sends requests to them at the same time."""

    model: pathlib.Path
    root: pathlib.Path
    stack: Any

    def __call__(self, *positional: Any, flags: Any = None, **parameters: Any) -> Running:
        if not (self.root / "m").exists():
            (self.root / "m").mkdir()
            publish(self.root / "m" / "1", self.model)
        file = self.root / "batching_parameters.txt"
        file.write_text(text(BatchingParameters(*positional, **parameters)))
        server: Running = self.stack.enter_context(
            running(
                model_name="m",
                model_base_path=str(self.root / "m"),
                enable_batching=True,
                batching_parameters_file=str(file),
                **{"grpc_max_threads": 32, **(flags or {})},
            )
        )
        return server


@pytest.fixture
def batched(told: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Batched]:
    with contextlib.ExitStack() as stack:
        yield Batched(told, tmp_path, stack)


def together(server: Running, requests: Sequence[predict_pb2.PredictRequest]) -> list[Any]:
    """The answers to requests sent at once: dictionaries of arrays, or errors."""
    calls = [server.predictions.Predict.future(request, 60) for request in requests]
    answers = []
    for call in calls:
        error = call.exception()
        if error is not None:
            answers.append((error.code(), error.details()))
            continue
        outputs = call.result().outputs
        answers.append({key: tf.make_ndarray(value) for key, value in outputs.items()})
    return answers


def x(*values: float) -> dict[str, Any]:
    return {"x": np.float32(values)}


def waiting(server: Running) -> int:
    """How many requests wait in the queues."""
    batching = server.server._batching
    assert batching is not None
    queues = list(batching._scheduler._queues)
    return sum(len(batch.tasks) for queue in queues for batch in list(queue._batches))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


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
        {"s": np.array([b"a"], object), "m": np.float32([[1, 2]])},
        {"m": np.float32([[3, 4]]), "s": np.array([b"longer"], object)},
    ]
    one, two = together(server, [predict_request("m", i, "pair") for i in inputs])
    assert (one["loud"].tolist(), one["total"].tolist()) == ([b"a!"], [3])
    assert (two["loud"].tolist(), two["total"].tolist()) == ([b"longer!"], [7])


@pytest.fixture
def base(told: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1", told)
    return tmp_path / "m"


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


def batch_threads(prefix: str) -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if name.startswith(prefix))


def test_the_threads_end_with_the_server(base: pathlib.Path) -> None:
    server = ModelServer(Options(model_base_path=str(base), port=0, enable_batching=True))
    server.start()
    count = len(os.sched_getaffinity(0))
    assert batch_threads("model_server_batch_threads_") == [
        f"model_server_batch_threads_{number}" for number in range(count)
    ]
    assert server.stop(10)
    assert not batch_threads("model_server_batch_threads_")


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
        slow = {"x": np.float32([1]), "seconds": np.float32([30])}
        with pytest.raises(ServingError) as caught:
            predict(server.server.core, predict_request("m", slow, "slow"), 0.5)
        assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_each_version_may_bring_its_own_parameters(
    told: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = "model_config_list {\n"
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        publish(tmp_path / name / "1", told)
        config += f'config {{ name: "{name}" base_path: "{tmp_path / name}" '
        config += 'model_platform: "tensorflow" }\n'
    own = BatchingParameters(4, allowed_batch_sizes=(4,))
    (tmp_path / "with" / "1" / "batching_params.pbtxt").write_text(text(own))
    (tmp_path / "models.config").write_text(config + "}")
    # Of these the threads count alone; with the rest no queue could be made.
    common = BatchingParameters(0, num_batch_threads=3, thread_pool_name="shared")
    (tmp_path / "common.txt").write_text(text(common))
    with running(
        model_config_file=str(tmp_path / "models.config"),
        enable_batching=True,
        batching_parameters_file=str(tmp_path / "common.txt"),
        enable_per_model_batching_parameters=True,
    ) as server:
        assert server.predict("with", x(1))["rows"].tolist() == [4]
        assert server.predict("without", x(1))["rows"].tolist() == [1]
        assert server.predict("without", {"x": np.float32([1])}, "scalar")["y"] == 1
        if server.own is not None:
            assert batch_threads("shared_") == ["shared_0", "shared_1", "shared_2"]
        # A version with parameters that are wrong does not load; the one before it serves on.
        staged = tmp_path / "staged"
        publish(staged, told)
        (staged / "batching_params.pbtxt").write_text(
            "max_batch_size { value: 16 } allowed_batch_sizes: 8"
        )
        staged.rename(tmp_path / "with" / "2")
        server.until("with", {2: "END", 1: "AVAILABLE"})
        newest, _ = server.status("with").model_version_status
        assert (newest.status.error_code, newest.status.error_message) == (
            Code.INVALID_ARGUMENT,
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; "
            "expected 16",
        )
        assert server.predict("with", x(1))["rows"].tolist() == [4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8",
            "INVALID_ARGUMENT: Last entry in allowed_batch_sizes must match max_batch_size; last "
            "entry was 8; expected 16",
        ),
        (
            "num_batch_threads { value: 0 }",
            "INVALID_ARGUMENT: num_batch_threads must be positive; was 0",
        ),
        ("max_batch_size: 16", "INVALID_ARGUMENT: Invalid protobuf file: "),
    ],
)
def test_wrong_parameters_are_said_at_the_start(
    content: str, message: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "b.txt"
    file.write_text(content)
    with pytest.raises(ServingError) as caught:
        ModelServer(
            Options(
                model_base_path=str(tmp_path),
                enable_batching=True,
                batching_parameters_file=str(file),
            )
        )
    assert str(caught.value).startswith(message)


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


def test_closing_runs_what_waits(told: pathlib.Path) -> None:
    scheduler = BatchScheduler(1, "closing")
    inner = load_servable(told, SessionSettings())
    servable = BatchedServable(inner, BatchingParameters(4, NEVER), scheduler)
    signature = servable.signatures["serving_default"]
    feed, fetch = signature.inputs["x"].name, signature.outputs["y"].name
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(servable.run, {feed: np.float32([1])}, [fetch])
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
