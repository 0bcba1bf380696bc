"""Model servers over small models, and calls of them.

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
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.errors import Code, ServingError
from serving.model_server.flags import Options
from serving.model_server.launch import LaunchError, free_port, server_process
from serving.model_server.server import ModelServer
from tests.support.requests import predict_request

server_binary: str | None = None
"""The program that `running` starts; None is a server in this process."""


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


@contextlib.contextmanager
def running(*, rest: bool = False, **flags: Any) -> Iterator[Running]:
    """A server in this process, on free ports, that does not wait long for anything.

    Args:
        rest: whether it has the REST API, too.
        flags: as on the command line.
    """
    flags = {"port": 0, "max_num_load_retries": 0, "file_system_poll_wait_seconds": 0.1, **flags}
    if server_binary is not None:
        with contextlib.ExitStack() as stack:
            try:
                other = stack.enter_context(
                    server_process(
                        *_command_line(flags),
                        binary=server_binary,
                        # Another program has to be told a number.
                        rest_port=free_port() if rest else 0,
                    )
                )
            except LaunchError as error:
                raise _status_in(str(error)) from error
            running = stack.enter_context(_called(None, other.port))
            running.process = other.process
            running.rest_port = other.rest_port
            yield running
        return
    # 0 would be no REST API.
    server = ModelServer(Options(**flags, rest_api_port=1 if rest else 0))
    ports = [0]
    if server._rest is not None:
        listen = server._rest.listen

        def anywhere(host: str, port: int) -> int:
            ports.append(listen(host, 0))
            return ports[-1]

        server._rest.listen = anywhere  # type: ignore[method-assign]
    try:
        with _called(server, server.start()) as running:
            running.rest_port = ports[-1]
            yield running
    finally:
        # However busy the machine is.
        assert server.stop(120)


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
        if name in ("host", "port"):
            continue
        if isinstance(value, tuple):
            value = ",".join(f"{key}={setting}" for key, setting in value)
        elif isinstance(value, bool):
            value = str(value).lower()
        elif name.endswith("_wait_seconds"):
            value = math.ceil(value)
        yield f"--{name}={value}"


@contextlib.contextmanager
def refused(code: Any, message: str) -> Iterator[None]:
    """The call inside fails with this code and exactly this message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert (error.code(), error.details()) == (code, message)


def configured(text: str) -> Any:
    return text_format.Parse(text, model_management_pb2.ReloadConfigRequest())


def one_model(base: pathlib.Path, more: str = "", name: str = "m") -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def reload(server: Running, *models: str, timeout: float = 30) -> None:
    text = f"config {{ model_config_list {{ {' '.join(models)} }} }}"
    server.models.HandleReloadConfigRequest(configured(text), timeout)


X = {"x": np.array([2.0], np.float32)}


def answer(server: Running, **spec: Any) -> float:
    """1 and the model's b."""
    return float(server.predict("m", X, **spec)["y"][0])
