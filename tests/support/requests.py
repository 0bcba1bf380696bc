"""Requests to a model server."""

import functools
import io
import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)


def images(count: int, size: int = 32) -> Any:
    return np.random.default_rng(7).normal(size=(count, size, size, 3)).astype(np.float32)


def jpeg(size: int = 32) -> bytes:
    data: bytes = tf.io.encode_jpeg(np.full((size, size, 3), 99, np.uint8)).numpy()
    return data


@functools.cache
def scan_bomb(scans: int, size: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated: a few bytes that take as long as an image."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), (90, 120, 30)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    first, last = data.count(b"\xff\xda"), data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - first) + data[-2:]


def claimed(kind: str) -> bytes:
    """A small image whose header claims 60000x60000."""
    if kind == "jpeg":
        data = bytearray(jpeg())
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
        return bytes(data)
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    checksum = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + checksum


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


def example(**features: float) -> Any:
    proto = tf.train.Example()
    for key, value in features.items():
        proto.features.feature[key].float_list.value.append(value)
    return proto


def filled(request: Any, model: str, signature: str, values: Sequence[float]) -> Any:
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(example(x=value) for value in values)
    return request


def classification(model: str, signature: str, values: Sequence[float]) -> Any:
    return filled(classification_pb2.ClassificationRequest(), model, signature, values)


def regression(model: str, signature: str, values: Sequence[float]) -> Any:
    return filled(regression_pb2.RegressionRequest(), model, signature, values)


def tasks(*methods: tuple[str, str], model: str = "tf1") -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in methods:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = model
        task.model_spec.signature_name = signature
    request.input.example_list.examples.add().CopyFrom(example(x=2.0))
    return request


def predict_log(seconds: float = 0.0) -> Any:
    log = prediction_log_pb2.PredictionLog()
    inputs = {"x": np.array([2.0], np.float32), "seconds": np.array([seconds], np.float32)}
    log.predict_log.request.CopyFrom(predict_request("any", inputs, "slow"))
    return log


def write_requests(version: pathlib.Path, *records: Any) -> pathlib.Path:
    (version / "assets.extra").mkdir(exist_ok=True)
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())
    return path
