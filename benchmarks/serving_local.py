"""A model server in this process, for what is compared with its sessions."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.core import ServerCore
from serving.flags import Options
from serving.model_server import ModelServer

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


def predict_request(model: str, signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
    """A Predict request with these arrays."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request
