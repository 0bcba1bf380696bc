"""Requests that a real TF Serving core was sent, made whole again, and what it answered.

`tests/data/real_server/README.md` says what is recorded.
"""

import base64
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.support.paths import DATA

BODY_LIMIT = 80
"""Characters after which a body is cut."""
REPLY_LIMIT = 400
"""Characters after which a reply of REST is cut."""

_REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}
_SIZE = 224


def lines(name: str) -> list[dict[str, Any]]:
    """The recorded calls of `grpc` or `rest`."""
    text = (DATA / "real_server" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def comparable(message: str) -> str:
    """A message without what differs from one build of a model, or of a server, to the next.

    That is the numbers that TensorFlow adds to the names of functions and nodes, the scope of a
    graph with random weights, and how many spaces protobuf puts behind its mark of text that
    nobody is to parse. A node's own name, its values and all words stay.
    """
    message = re.sub(r"(?<=goo\.gle/debugonly) +", " ", message.replace("untrained/", ""))
    message = re.sub(r"\b(__inference_\w+?|map_while_\w+?)_\d+(?=}})", r"\1", message)
    return re.sub(
        r"\b(EnsureShape|strided_slice|StatefulPartitionedCall)(_\d+)?:0", r"\1:0", message
    )


def grpc_request(line: dict[str, Any]) -> Any:
    """The request of a line, every content in angle brackets filled in."""
    message = _REQUESTS[line["method"]]()
    filler = b"\xff" if line["case"].startswith("nan ") else b"\0"
    return json_format.ParseDict(_filled(line["request"], filler), message)


def _filled(value: Any, filler: bytes) -> Any:
    if isinstance(value, dict):
        return {
            key: {"dim": [{"size": size} for size in member]}
            if key == "tensor_shape"
            else _filled(member, filler)
            for key, member in value.items()
        }
    if isinstance(value, list):
        return [_filled(item, filler) for item in value]
    if isinstance(value, str) and value.startswith("<"):
        return base64.b64encode(_content(value, filler)).decode()
    return value


def _content(described: str, filler: bytes) -> bytes:
    if match := re.fullmatch(r"<(\d+) bytes, any values>", described):
        return filler * int(match[1])
    if described == "<photo cat.jpg>":
        return cat()
    assert described == "<first half of photo cat.jpg>", described
    return cat()[: len(cat()) // 2]


@functools.cache
def cat() -> bytes:
    """The photograph that was sent."""
    return (DATA / "photos" / "cat.jpg").read_bytes()


def rest_body(line: dict[str, Any]) -> str:
    """The body of a line; one that was cut is the one of `_bodies` that begins as it does."""
    begins: str = line["body_begins"]
    if len(begins) < BODY_LIMIT:
        return begins
    assert len(begins) == BODY_LIMIT
    (body,) = (body for body in _bodies() if body.startswith(begins))
    return body


@functools.cache
def _bodies() -> tuple[str, ...]:
    return tuple(_whole_bodies())


def _whole_bodies() -> Iterator[str]:
    """Bodies as they may have been: what is beyond their beginnings is made up."""
    photo = json.dumps({"b64": base64.b64encode(cat()).decode()}, separators=(",", ":"))
    (large,) = (line for line in lines("grpc") if line["case"] == "60MP")
    png = large["request"]["inputs"]["image_bytes"]["string_val"][0]
    yield f'{{"signature_name":"bytes_logits","inputs":{{"image_bytes":[{photo}]}}}}'
    yield f'{{"signature_name":"bytes_logits","instances":[{{"image_bytes":{photo}}}]}}'
    yield f'{{"signature_name":"bytes_logits","inputs":[{photo}]}}'
    yield f'{{"signature_name":"bytes_logits","instances":[{{"b64":"{png}"}}]}}'
    for signature in ("bytes_logits", "bytes_features", "bytes_class_attention"):
        yield f'{{"signature_name":"{signature}","instances":[{photo}]}}'
    image, zeros = (json.dumps(pixels.tolist()) for pixels in _images())
    yield f'{{"instances":[{image}]}}'
    yield f'{{"inputs":[{image}]}}'
    yield f'{{"inputs":[{zeros}]}}'
    yield f'{{"signature_name":"self_attention","instances":[{{"images":{image},"block":0}}]}}'
    yield f'{{"signature_name":"self_attention","inputs":{{"images":[{zeros}],"block":[99]}}}}'
    yield f'{{"signature_name":"classify","examples":[{{"image/encoded":{photo}}}]}}'
    yield f'{{"examples":[{{"image/encoded":{photo}}}]}}'


def _images() -> tuple[Any, Any]:
    """One that begins with the pixels that were sent, and one of zeros."""
    image = np.zeros((_SIZE, _SIZE, 3), np.float32)
    zeros = image.copy()
    image[0, 0] = (0.346, 0.822, 0.33)
    image[0, 1, 0] = -1
    return image, zeros
