"""Warm-up requests: what a server runs before a version is available.

The first request of a signature, and with XLA the first of each batch size, waits until the graph
is optimised or compiled. Warm-up requests cause that while the version loads.

Source of the format: `saved_model_warmup_util.cc` of tensorflow/serving's servables. A tensor is
written as its shape and one value, because `Tensor::FromProto` repeats the last of too few values.
So a record for 32 images is no larger than for one.
"""

import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from .contract import (
    CLASSIFY_METHOD,
    EXAMPLE_IMAGE_KEY,
    Head,
    SignatureContract,
    TensorContract,
    signatures_for,
)
from .geometry import Geometry

REQUESTS = pathlib.PurePosixPath("assets.extra/tf_serving_warmup_requests")
"""Path inside a version: a TFRecord file of `PredictionLog`."""

MOST_RECORDS = 1000
"""The most records that a server accepts."""

# A small JPEG of colour gradients.
_IMAGE = pathlib.Path(__file__).with_name("warmup.jpg")


def warmup_requests(
    model: str, head: Head, geometry: Geometry, batch_sizes: Sequence[int]
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """A request for each signature and batch size.

    Args:
        model: name of the model.
        head: the model's head.
        geometry: the model's sizes.
        batch_sizes: sizes to which the server pads batches.
    """
    for name, signature in signatures_for(head, geometry).items():
        for size in batch_sizes:
            if signature.method == CLASSIFY_METHOD:
                yield _classify(model, name, size)
            else:
                yield _predict(model, signature, geometry, size)


def write_warmup(
    path: pathlib.Path, model: str, head: Head, geometry: Geometry, batch_sizes: Sequence[int]
) -> int:
    """Writes `warmup_requests` and returns their number; equal arguments give equal bytes.

    Args:
        path: path of the file, in an existing directory.
        model: name of the model.
        head: the model's head.
        geometry: the model's sizes.
        batch_sizes: sizes to which the server pads batches.

    Raises:
        ValueError: there are more than `MOST_RECORDS`.
    """
    records = [
        log.SerializeToString(deterministic=True)
        for log in warmup_requests(model, head, geometry, batch_sizes)
    ]
    if len(records) > MOST_RECORDS:
        raise ValueError(f"{len(records)} warm-up requests; at most {MOST_RECORDS} are allowed")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return len(records)


def _predict(
    model: str, signature: SignatureContract, geometry: Geometry, size: int
) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = signature.name
    for tensor in signature.inputs:
        request.inputs[tensor.name].CopyFrom(_tensor(tensor, geometry, size))
    return log


def _classify(model: str, name: str, size: int) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.classify_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = name
    for _ in range(size):
        example = request.input.example_list.examples.add()
        feature = example.features.feature[EXAMPLE_IMAGE_KEY]
        feature.bytes_list.value.append(_IMAGE.read_bytes())
    return log


def _tensor(contract: TensorContract, geometry: Geometry, size: int) -> tensor_pb2.TensorProto:
    """A tensor with one value: pixels of ImageNet's mean, the last block, or the image."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(contract.dtype).as_datatype_enum)
    for length in contract.resolve(geometry):
        proto.tensor_shape.dim.add(size=size if length is None else length)
    if contract.dtype == "float32":
        proto.float_val.append(0.0)
    elif contract.dtype == "int32":
        # Images leave the model after their block, so the last block warms up all of it.
        proto.int_val.append(geometry.sa_blocks - 1)
    else:
        proto.string_val.append(_IMAGE.read_bytes())
    return proto
