"""Small SavedModels of both styles, servers over them, and stubs to call them.

The servers are in this process. Where `--server_binary` names the real one, or it is on the PATH,
they are processes of that.
"""

import contextlib
import dataclasses
import math
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.errors import Code, ServingError
from serving.model_server.flags import Options
from serving.model_server.launch import LaunchError, find_binary, free_port, server_process
from serving.model_server.server import ModelServer

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

server_binary: str | None = None
"""The program that `running` starts; None is a server in this process."""


def pytest_configure(config: pytest.Config) -> None:
    global server_binary
    server_binary = find_binary(config.getoption("--server_binary"))


class HalfPlus(tf.Module):
    """y = x / 2 + b, as a predict, a classify and a regress signature."""

    def __init__(self, b: float) -> None:
        super().__init__()
        self.a = tf.Variable(0.5)
        self.b = tf.Variable(b)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": self.a * x + self.b, "twice": 2.0 * (self.a * x + self.b)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        y = self.a * self._parse(inputs) + self.b
        labels = tf.tile([["small", "large"]], [tf.shape(y)[0], 1])
        return {"classes": labels, "scores": tf.concat([-y, y], 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        return {"outputs": self.a * self._parse(inputs) + self.b}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.float32, name="seconds"),
        ]
    )
    def slow(self, x: Any, seconds: Any) -> dict[str, Any]:
        """Takes the longest of `seconds`."""
        end = tf.timestamp() + tf.cast(tf.reduce_max(seconds), tf.float64)
        (now,) = tf.while_loop(lambda now: now < end, lambda now: [tf.timestamp()], [end - 1e9])
        return {"y": self.a * x + self.b + 0.0 * tf.cast(now, tf.float32)}

    @staticmethod
    def _parse(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]


def write_tf2(directory: pathlib.Path, b: float = 2.0) -> None:
    model = HalfPlus(b)
    signatures = {
        "serving_default": model.predict,
        "classify": model.classify,
        "regress": model.regress,
        "slow": model.slow,
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)


def write_tf1(directory: pathlib.Path, b: float = 2.0) -> None:
    """The same as a flat graph, as exporters of TensorFlow 1 write it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.Variable(0.5, use_resource=False, name="a")
        bias = v1.Variable(b, use_resource=False, name="b")
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = v1.io.parse_example(
            examples, {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": _optional()}
        )
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(a * x, bias, name="y")
        scores = tf.add(a * (parsed["x"] + parsed["x2"]), bias, name="scores")
        info, define = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": define(
                    {"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"
                ),
                "classify": define({"inputs": info(examples)}, {"scores": info(scores)}, CLASSIFY),
                "regress": define({"inputs": info(examples)}, {"outputs": info(scores)}, REGRESS),
            },
        )
        builder.save()


def _optional() -> Any:
    return tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])


@pytest.fixture(scope="session")
def half_plus(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """`half_plus(b, style)` -> directory of a model y = x / 2 + b. Not to be written to."""
    built: dict[tuple[float, str], pathlib.Path] = {}
    root = tmp_path_factory.mktemp("half_plus")

    def of(b: float = 2.0, style: str = "tf1") -> pathlib.Path:
        if (b, style) not in built:
            built[b, style] = root / f"{style}_{b}"
            {"tf1": write_tf1, "tf2": write_tf2}[style](built[b, style], b)
        return built[b, style]

    return of


def publish(version: pathlib.Path, source: pathlib.Path) -> pathlib.Path:
    """Puts a version in place in one step, as a publisher does."""
    staged = version.parent / f"staged-{version.name}"
    shutil.copytree(source, staged)
    staged.rename(version)
    return version


@dataclasses.dataclass
class Running:
    """A server and stubs for it: `own` is in this process, `process` is another one."""

    own: ModelServer | None
    port: int
    channel: Any
    predictions: Any
    models: Any
    process: "subprocess.Popen[bytes] | None" = None
    rest_port: int = 0

    @property
    def server(self) -> ModelServer:
        """The server from inside, which a test of another process has to do without."""
        if self.own is None:
            pytest.skip("looks inside the server, which is another process")
        return self.own

    def polled(self) -> None:
        """Waits until the server has looked for versions and configs, some times over.

        It does so every tenth of a second, or every second where that is the least it can.
        """
        time.sleep(0.5 if self.own is not None else 2.5)

    def predict(
        self,
        model: str,
        inputs: dict[str, Any],
        signature: str = "",
        timeout: float = 60.0,
        **spec: Any,
    ) -> dict[str, Any]:
        """A Predict call with arrays in and out."""
        response = self.predictions.Predict(
            predict_request(model, inputs, signature, **spec), timeout
        )
        return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    def states(self, model: str) -> dict[int, str]:
        """Version -> name of its state."""
        return {
            entry.version: get_model_status_pb2.ModelVersionStatus.State.Name(entry.state)
            for entry in self.status(model).model_version_status
        }

    def status(self, model: str) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest(
            model_spec=model_pb2.ModelSpec(name=model)
        )
        return self.models.GetModelStatus(request, 30)

    def until(self, model: str, states: dict[int, str], seconds: float = 20.0) -> None:
        """Waits until a model's versions are in these states."""
        end = time.monotonic() + seconds
        while (now := self.states(model)) != states:
            assert time.monotonic() < end, f"{now}; expected {states}"
            time.sleep(0.05)


def predict_request(
    model: str, inputs: dict[str, Any], signature: str = "", **spec: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@contextlib.contextmanager
def running(**flags: Any) -> Iterator[Running]:
    """A server in this process, on a free port, that does not wait long for anything."""
    flags = {"port": 0, "max_num_load_retries": 0, "file_system_poll_wait_seconds": 0.1, **flags}
    if server_binary is not None:
        with contextlib.ExitStack() as stack:
            try:
                other = stack.enter_context(
                    server_process(
                        *_command_line(flags),
                        binary=server_binary,
                        rest_port=flags.get("rest_api_port", 0),
                    )
                )
            except LaunchError as error:
                raise _status_in(str(error)) from error
            running = stack.enter_context(_called(None, other.port))
            running.process = other.process
            running.rest_port = flags.get("rest_api_port", 0)
            yield running
        return
    server = ModelServer(Options(**flags))
    try:
        with _called(server, server.start()) as running:
            running.rest_port = flags.get("rest_api_port", 0)
            yield running
    finally:
        assert server.stop(10)


@contextlib.contextmanager
def _called(server: ModelServer | None, port: int) -> Iterator[Running]:
    limits = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    with grpc.insecure_channel(f"127.0.0.1:{port}", limits) as channel:
        yield Running(
            server,
            port,
            channel,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def _status_in(text: str) -> Exception:
    """The status that a server said at its end, which one in this process would have raised."""
    found = re.search(r"\b([A-Z_]+): (.*)", text)
    return ServingError(Code[found[1]], found[2]) if found else AssertionError(text)


def _command_line(flags: dict[str, Any]) -> Iterator[str]:
    """Flags as the real server takes them: it knows no `host`, and waits whole seconds."""
    for name, value in flags.items():
        if name in ("host", "port", "rest_api_port"):
            continue
        if isinstance(value, tuple):
            value = ",".join(f"{key}={setting}" for key, setting in value)
        elif isinstance(value, bool):
            value = str(value).lower()
        elif name.endswith("_wait_seconds"):
            value = math.ceil(value)
        yield f"--{name}={value}"


@pytest.fixture(scope="session")
def served(
    half_plus: Callable[..., pathlib.Path],
    tiny_models: dict[Any, pathlib.Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """One server with all models that no test changes: tf1, tf2 and cait."""
    root = tmp_path_factory.mktemp("served")
    for name, source in {
        "tf1": half_plus(2.0),
        "tf2": half_plus(2.0, "tf2"),
        "cait": tiny_models["classifier"],
    }.items():
        (root / name).mkdir()
        publish(root / name / "1", source)
    config = root / "models.config"
    config.write_text(
        "model_config_list {\n"
        + "\n".join(
            f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" '
            f'version_labels {{ key: "stable" value: 1 }} '
            f'version_labels {{ key: "gone" value: 9 }} }}'
            for name in ("tf1", "tf2", "cait")
        )
        + "\n}\n"
    )
    monitoring = root / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with running(
        model_config_file=str(config),
        allow_version_labels_for_unavailable_models=True,
        rest_api_port=free_port(),
        monitoring_config_file=str(monitoring),
    ) as server:
        yield server


@contextlib.contextmanager
def refused(code: Any, message: str) -> Iterator[None]:
    """The call inside fails with this code and exactly this message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert (error.code(), error.details()) == (code, message)


def images(count: int, size: int = 32) -> Any:
    return np.random.default_rng(7).normal(size=(count, size, size, 3)).astype(np.float32)
