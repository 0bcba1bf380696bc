"""The program: what it prints, how it ends, where it listens."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.errors import Code, ServingError
from serving.model_server.flags import Options
from serving.model_server.server import ModelServer
from tests.support.model_server import publish, running
from tests.support.paths import REPOSITORY
from tests.support.requests import predict_request
from tests.support.waiting import until

pytestmark = pytest.mark.slow

Models = Callable[..., pathlib.Path]


@pytest.fixture
def base(tmp_path: pathlib.Path, half_plus: Models) -> pathlib.Path:
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1", half_plus(2.0, "tf2"))
    return path


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m serving.model_server` with these flags."""
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.model_server", "--port=0", *flags],
            cwd=REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_sigterm_answers_what_is_in_flight(
    base: pathlib.Path, program: Callable[..., subprocess.Popen[str]], tmp_path: pathlib.Path
) -> None:
    process = program("--model_name=m", f"--model_base_path={base}")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("model_server: serving gRPC on 127.0.0.1:")
    port = int(line.rpartition(":")[2])
    begun = tmp_path / "begun"
    inputs = {
        "x": np.array([2.0], np.float32),
        "seconds": np.array([6.0], np.float32),
        "begun": np.array([str(begun)], object),
    }
    replies: list[Any] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(predict_request("m", {"x": np.array([2.0], np.float32)}), 30)

        def ask() -> None:
            replies.append(stub.Predict(predict_request("m", inputs, "announced"), 30))

        slow = threading.Thread(target=ask)
        slow.start()
        until(begun.exists)
        process.send_signal(signal.SIGTERM)

        def unavailable() -> bool:
            request = predict_request("m", {"x": np.array([2.0], np.float32)})
            error: Any = stub.Predict.future(request, 30).exception()
            return error is not None and error.code() == grpc.StatusCode.UNAVAILABLE

        # Nothing new is taken while the last ones are answered.
        until(unavailable)
        assert slow.is_alive()
        slow.join()
    assert list(tf.make_ndarray(replies[0].outputs["y"])) == [3.0]
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""
    # Its own log and nothing of TensorFlow's.
    loading, *lines = [text.split(" INFO ")[1] for text in err.splitlines()]
    assert re.fullmatch(r"m version 1: loading from /.*/1", loading)
    assert lines == [
        "m version 1 is available",
        "m version 1 is unloaded",
    ]


@pytest.mark.slow
def test_a_model_that_fails_to_load_is_said_in_one_line(
    tmp_path: pathlib.Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    process = program(
        "--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--max_num_load_retries=0"
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        "model_server: failed to start: UNKNOWN: 1 model(s) did not become available: "
        "{{{name: m version: 1} due to error: NOT_FOUND: Could not find SavedModel"
    )


@pytest.mark.slow
def test_labels_at_the_start_need_a_flag(
    base: pathlib.Path, tmp_path: pathlib.Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    process = program(f"--model_config_file={config}")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    said = err.splitlines()[-1]
    assert said.startswith("model_server: failed to start: FAILED_PRECONDITION: Request to assign")
    assert said.endswith("takes labels only with --allow_version_labels_for_unavailable_models")


def test_a_port_that_is_taken(base: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ModelServer(Options(model_base_path=str(base), port=port))
        try:
            with pytest.raises(ServingError) as caught:
                server.start()
        finally:
            server.stop(0)
    assert caught.value.code == Code.UNAVAILABLE
    assert str(port) in caught.value.message


@pytest.mark.parametrize("text", [None, "model_config_list {", "\0\xff"])
def test_config_files_that_cannot_be_read(text: str | None, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "models.config"
    if text is not None:
        file.write_text(text)
    server = ModelServer(Options(model_config_file=str(file), port=0))
    try:
        with pytest.raises(ServingError, match=r"models\.config"):
            server.start()
    finally:
        server.stop(0)


def test_a_base_path_that_comes_later(base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = Options(
        model_base_path=str(tmp_path / "later"), port=0, file_system_poll_wait_seconds=0.1
    )
    server = ModelServer(options)
    ports: list[int] = []
    starting = threading.Thread(target=lambda: ports.append(server.start()))
    starting.start()
    time.sleep(0.5)
    assert not ports
    base.rename(tmp_path / "later")
    starting.join(20)
    try:
        assert ports
    finally:
        server.stop(1)


def test_a_unix_socket(base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    with (
        running(model_name="m", model_base_path=str(base), grpc_socket_path=str(path)),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(predict_request("m", {"x": np.array([2.0], np.float32)}), 30)
        assert list(reply.outputs["y"].float_val) == [3.0]


def test_it_listens_on_the_loopback_address_alone(base: pathlib.Path) -> None:
    with running(model_name="m", model_base_path=str(base)) as server:
        with socket.create_connection(("127.0.0.1", server.port), 2):
            pass
        # Another address of this machine, which 0.0.0.0 would answer on.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", server.port), 2)


def slow(seconds: float) -> Any:
    inputs = {"x": np.array([2.0], np.float32), "seconds": np.array([seconds], np.float32)}
    return predict_request("m", inputs, "slow")


def test_channel_arguments_are_grpcs(base: pathlib.Path) -> None:
    with running(
        model_name="m",
        model_base_path=str(base),
        grpc_channel_arguments=(("grpc.max_receive_message_length", 1000),),
    ) as server:
        server.predict("m", {"x": np.zeros(100, np.float32)})
        with pytest.raises(grpc.RpcError) as caught:
            server.predict("m", {"x": np.arange(1000, dtype=np.float32)})
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health(base: pathlib.Path) -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    with running(model_name="m", model_base_path=str(base)) as server:
        stub = stubs.HealthStub(server.channel)
        for service in ("", "tensorflow.serving.PredictionService"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=10)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.NOT_FOUND


def test_reflection(base: pathlib.Path) -> None:
    client = pytest.importorskip("grpc_reflection.v1alpha.proto_reflection_descriptor_database")
    with running(model_name="m", model_base_path=str(base)) as server:
        database = client.ProtoReflectionDescriptorDatabase(server.channel)
        assert {
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
        } <= set(database.get_services())
        file = database.FindFileContainingSymbol("tensorflow.serving.PredictionService")
        assert "Predict" in [method.name for method in file.service[0].method]
