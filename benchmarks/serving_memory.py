"""What a server takes of memory: `python -m benchmarks.serving_memory --published DIR`.

Each model of a published tree is served by a server of its own, with its warm-up requests and the
environment and flags of the deployment files. One version is loaded, then a second one beside it,
then a third one takes the place of the first; at last clients send it calls of every signature at
the same time.
The formula of the deployment files (`serving_configs.server.memory`) has to be above all of it.
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.model_server.launch import find_binary, server_process
from serving_configs import base_path, published_versions
from serving_configs.server.deployment import ONE_THREAD_AN_OPERATION
from serving_configs.server.environment import SERVER_ENVIRONMENT
from serving_configs.server.memory import server_memory
from serving_configs.server.models_config import add_published, as_text, set_versions
from serving_configs.tree.atomic import write_atomically
from serving_configs.tree.published import PublishedModel, read_published
from signatures.addresses import address

from .serving_local import UNLIMITED
from .table import as_markdown, machine

CLIENTS = 4
_MIB = 2**20
_LOAD_SECONDS = 900.0
_COLUMNS = (
    "model",
    "weights",
    "empty server",
    "one version",
    "two versions",
    "highest while a third one takes the place of one",
    f"highest with {CLIENTS} clients",
    "limit by the formula",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status: 1 if a server took more than the formula says.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.serving_memory", description=__doc__)
    parser.add_argument(
        "--published", type=address, default="build/published", help="root of a published tree"
    )
    parser.add_argument("--models", default="all", help="names, separated by commas")
    parser.add_argument(
        "--server_binary", type=address, help="as the server, instead of this package's"
    )
    options = parser.parse_args(argv)
    os.environ.update(SERVER_ENVIRONMENT)
    names = sorted(published_versions(options.published))
    if options.models != "all":
        names = options.models.split(",")
    binary = find_binary(options.server_binary)
    rows = []
    holds = True
    for name in names:
        directory = base_path(options.published, name)
        versions = published_versions(options.published)[name]
        model = read_published(directory / str(versions[-1]))
        figures = list(_measured(model, binary))
        limit = server_memory([(model, 2)])
        holds = holds and max(figures) <= limit
        row = (4 * model.parameters, *figures, limit)
        rows.append((name, *(f"{figure / _MIB:.0f}" for figure in row)))
        print(*rows[-1], flush=True)
    print(machine())
    print(as_markdown(_COLUMNS, rows))
    return 0 if holds else 1


def _measured(model: PublishedModel, binary: str | None) -> Iterator[int]:
    """Bytes in the order of the columns."""
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / model.model).mkdir()
        for version in (1, 2, 3):
            (root / model.model / str(version)).symlink_to(model.directory.resolve())
        config = add_published(ModelServerConfig(), {model.model: [1]}, str(root))
        config.model_config_list.config[0].version_labels.clear()
        path = root / "models.config"
        write_atomically(path, as_text(_nothing()))
        flags = (
            f"--model_config_file={path}",
            "--model_config_file_poll_wait_seconds=1",
            ONE_THREAD_AN_OPERATION,
        )
        with server_process(*flags, binary=binary) as server:
            pid = server.process.pid
            channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", UNLIMITED)
            with channel:
                yield _memory(pid, "VmRSS")
                for versions in ([1], [1, 2], [2, 3]):
                    entry = config.model_config_list.config[0]
                    set_versions(entry, versions)
                    write_atomically(path, as_text(config))
                    _wait(channel, model.model, versions)
                    yield _memory(pid, "VmHWM" if 3 in versions else "VmRSS")
                _call_everything(channel, model)
                yield _memory(pid, "VmHWM")


def _nothing() -> ModelServerConfig:
    config = ModelServerConfig()
    config.model_config_list.SetInParent()
    return config


def _wait(channel: Any, name: str, versions: Sequence[int]) -> None:
    """Waits until these versions, and no others, are there."""
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    state = get_model_status_pb2.ModelVersionStatus
    end = time.monotonic() + _LOAD_SECONDS
    while time.monotonic() < end:
        try:
            found = stub.GetModelStatus(request, timeout=60).model_version_status
        except grpc.RpcError:
            found = []
        there = [entry.version for entry in found if entry.state != state.END]
        if sorted(there) == list(versions) and all(
            entry.state in (state.AVAILABLE, state.END) for entry in found
        ):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{name} has not loaded {versions} within {_LOAD_SECONDS:.0f} s")


def _call_everything(channel: Any, model: PublishedModel) -> None:
    """Sends the largest warm-up request of every signature from some clients at the same time."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    largest: dict[str, Any] = {}
    path = model.directory / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            largest[log.predict_log.request.model_spec.signature_name] = log.predict_log.request
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def send(first: int) -> None:
        requests = list(largest.values())
        for request in requests[first:] + requests[:first]:
            stub.Predict(request, timeout=_LOAD_SECONDS)

    threads = [
        threading.Thread(target=send, args=(number % len(largest),)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _memory(pid: int, field: str) -> int:
    """Bytes of a process: `VmRSS` is what it has, `VmHWM` the most that it had."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    sys.exit(main())
