"""A model server in this process, for what is compared with its sessions."""

import contextlib
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server.flags import Options
from serving.model_server.servables.core import ServerCore
from serving.model_server.server import ModelServer

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@contextlib.contextmanager
def local_server(directory: pathlib.Path, model: str) -> Iterator[tuple[ServerCore, Any]]:
    """A server of one version, and a stub for it."""
    with tempfile.TemporaryDirectory() as base:
        (pathlib.Path(base) / "1").symlink_to(directory.resolve())
        server = ModelServer(Options(port=0, model_name=model, model_base_path=base))
        try:
            port = server.start()
            with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                yield server.core, stub
        finally:
            server.stop(10)


def best_rate(
    directory: pathlib.Path, model: str, size: int, seconds: float = 4.0
) -> tuple[float, str]:
    """Images a second of the bare session in its best way, which no batching can be faster than.

    Args:
        directory: the version.
        model: its name.
        size: side of its images.
        seconds: of each way that is tried.

    Returns:
        The rate, and the way: batches of 1 to 16, from one or from two threads.
    """
    best = (0.0, "")
    with local_server(directory, model) as (core, _):
        request = predict_request(model, "logits")
        with core.handle(request.model_spec) as handle:
            servable = handle.servable
            signature = servable.signatures["logits"]
            feed, fetches = signature.inputs["images"].name, [signature.outputs["logits"].name]
            for batch, threads in itertools.product((1, 2, 4, 8, 16), (1, 2)):
                images = np.zeros((batch, size, size, 3), np.float32)
                servable.run({feed: images}, fetches)
                started = time.monotonic()
                with futures.ThreadPoolExecutor(threads) as pool:
                    runs = sum(
                        pool.map(
                            _count,
                            [lambda images=images: servable.run({feed: images}, fetches)] * threads,
                            [started + seconds] * threads,
                        )
                    )
                rate = batch * runs / (time.monotonic() - started)
                best = max(best, (rate, f"batches of {batch} from {threads} threads"))
    return best


def _count(run: Callable[[], Any], end: float) -> int:
    """How often something runs until a moment of `time.monotonic`."""
    count = 0
    while time.monotonic() < end:
        run()
        count += 1
    return count


def predict_request(model: str, signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
    """A Predict request with these arrays."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request
