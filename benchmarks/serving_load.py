"""Many clients on a server in a process of its own."""

import contextlib
import dataclasses
import itertools
import pathlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.model_server.launch import server_process

from .serving_local import UNLIMITED, predict_request

MODEL = "cait_xxs24_224"
CLIENTS = 16
PHOTO = pathlib.Path(__file__).parents[1] / "tests" / "data" / "photos" / "cat.jpg"

_BATCHING = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 2 }
allowed_batch_sizes: [1, 2, 4, 8]
"""


def batching(
    directory: pathlib.Path, binary: str | None = None, rounds: int = 5, seconds: float = 10.0
) -> tuple[float, float, int]:
    """Images a second of `CLIENTS` clients that send single images.

    Both servers run from the start; they are measured in turn.

    Returns:
        With batching off, with batching on (medians of the rounds), and the requests lost.
    """
    image = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    request = predict_request(MODEL, "logits", images=image)
    rates: tuple[list[float], list[float]] = ([], [])
    lost = 0
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        root = pathlib.Path(scratch)
        (root / "base").mkdir()
        (root / "base" / "1").symlink_to(directory.resolve())
        parameters = root / "batching_parameters.txt"
        parameters.write_text(_BATCHING)
        on = ("--enable_batching", f"--batching_parameters_file={parameters}")
        common = (f"--model_name={MODEL}", f"--model_base_path={root / 'base'}")
        ports = [
            stack.enter_context(server_process(*common, *flags, binary=binary)).port
            for flags in ((), on)
        ]
        for number in range(1 + rounds):
            for port, measured in zip(ports, rates, strict=True):
                done, failed = _clients(port, request, seconds if number else seconds / 3)
                lost += failed
                if number:
                    measured.append(done / seconds)
    off_rate, on_rate = (sorted(rate)[len(rate) // 2] for rate in rates)
    return off_rate, on_rate, lost


def _clients(port: int, request: Any, seconds: float) -> tuple[int, int]:
    """Calls answered and calls failed within some seconds."""
    end = time.monotonic() + seconds
    done, failed = itertools.count(), itertools.count()

    def send() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while time.monotonic() < end:
                try:
                    reply = stub.Predict(request, 60)
                    assert reply.outputs["logits"].tensor_shape.dim[0].size == 1
                    next(done)
                except (grpc.RpcError, AssertionError):
                    next(failed)

    _run_threads([send] * CLIENTS)
    return next(done), next(failed)


@dataclasses.dataclass(frozen=True)
class MixedLoad:
    """What a mixed load found.

    Attributes:
        calls: how many there were.
        failed: how many failed.
        memory: MiB of the server before the first new version and after each.
    """

    calls: int
    failed: int
    memory: list[float]


def mixed_load(
    directory: pathlib.Path, seconds: float, binary: str | None = None, every: float = 20.0
) -> MixedLoad:
    """Calls of all kinds while a new version comes, and the old one goes, every some seconds."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        base = pathlib.Path(scratch) / MODEL
        base.mkdir()
        _publish(base, directory, 1)
        flags = (f"--model_name={MODEL}", f"--model_base_path={base}")
        with server_process(*flags, "--file_system_poll_wait_seconds=1", binary=binary) as server:
            port, pid = server.port, server.process.pid
            end = time.monotonic() + seconds
            calls, failed = itertools.count(), itertools.count()

            def client(seed: int) -> None:
                choose = random.Random(seed)
                with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
                    kinds = _kinds(channel)
                    while time.monotonic() < end:
                        next(calls)
                        try:
                            choose.choice(kinds)()
                        except grpc.RpcError as error:
                            print(f"failed: {error.code()}: {error.details()}", file=sys.stderr)
                            next(failed)

            memory: list[float] = []

            def publisher() -> None:
                for version in itertools.count(2):
                    due = time.monotonic() + every
                    memory.append(_resident(pid))
                    while time.monotonic() < min(due, end):
                        time.sleep(0.1)
                    if time.monotonic() + every / 2 > end:
                        return
                    _publish(base, directory, version)
                    _retire(base, version - 2)

            _run_threads([publisher, *(lambda seed=seed: client(seed) for seed in range(4))])
            memory.append(_resident(pid))
        return MixedLoad(next(calls), next(failed), memory)


def _kinds(channel: Any) -> list[Callable[[], Any]]:
    """Calls to choose among; those that are dear come once, the others more often."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    photo = PHOTO.read_bytes()
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(photo)
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name = MODEL
    classify.model_spec.signature_name = "classify"
    classify.input.example_list.examples.append(example)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = MODEL
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = MODEL
    requests = [
        predict_request(MODEL, "logits", images=images[:1]),
        predict_request(MODEL, "logits", images=images),
        predict_request(MODEL, "class_attention", images=images[:1]),
        predict_request(MODEL, "bytes_logits", image_bytes=np.array([photo], object)),
        predict_request(MODEL, "self_attention", images=images[:1], block=np.array([3], np.int32)),
    ]
    return [
        *(lambda request=request: predictions.Predict(request, 120) for request in requests),
        lambda: predictions.Classify(classify, 120),
        lambda: predictions.GetModelMetadata(metadata, 120),
        lambda: models.GetModelStatus(status, 120),
    ]


def _publish(base: pathlib.Path, directory: pathlib.Path, version: int) -> None:
    staged = base.parent / f"staged-{version}"
    shutil.copytree(directory, staged)
    staged.rename(base / str(version))


def _retire(base: pathlib.Path, version: int) -> None:
    """Removes a version, if it is there, that the server dropped a while ago."""
    if (base / str(version)).exists():
        gone = base.parent / f"gone-{version}"
        (base / str(version)).rename(gone)
        shutil.rmtree(gone)


def _resident(pid: int) -> float:
    """MiB of memory that a process has in use."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def _run_threads(targets: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
