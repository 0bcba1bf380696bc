"""What no client should send: requests, bodies and image files that Hypothesis makes up."""

import io
import json
import pathlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from signatures.image_header import JPEG_MAGIC, PNG_MAGIC

MODEL = "m"
PHOTOS = pathlib.Path(__file__).parents[1] / "tests" / "data" / "photos"

_NAMES = ["", "logits", "features", "class_attention", "self_attention", "bytes_logits", "classify"]
_INPUTS = ["images", "block", "image_bytes", "inputs", ""]
_SIZES = [-1, 0, 1, 2, 3, 224, 2**31 - 1, 2**31, 2**62, 2**63 - 1]
_PARTS = [b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9", b"\xff\xff", b"\0" * 9, PNG_MAGIC, b"IDAT"]


def photographs() -> list[bytes]:
    """Whole files of each kind, small enough for many of them to be decoded."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    files = [(PHOTOS / "tiny.png").read_bytes()]
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, kind, **options)
        files.append(file.getvalue())
    return files


def scan_bomb(scans: int = 3000, size: int = 4000) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * scans + data[-2:]


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """Bytes with some of them changed, cut, repeated or replaced by what readers look for."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 1, 2, 16, 500, len(data)])))
        new = draw(st.one_of(st.binary(max_size=8), st.sampled_from(_PARTS)))
        repeat = draw(st.sampled_from([1, 1, 1, 200]))
        data[start:stop] = new * repeat
    return bytes(data)


def images() -> st.SearchStrategy[bytes]:
    """Files that are nearly photographs."""
    starts = st.sampled_from([JPEG_MAGIC, PNG_MAGIC, b""])
    noise = st.builds(bytes.__add__, starts, st.binary(max_size=200))
    return st.one_of(noise, *(damaged(whole) for whole in photographs()))


@st.composite
def predict_messages(draw: Any) -> bytes:
    """Serialised PredictRequests: of wrong tensors, or damaged."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw(st.sampled_from([MODEL, MODEL, MODEL, "", "none"]))
    request.model_spec.signature_name = draw(st.sampled_from(_NAMES))
    request.output_filter.extend(draw(st.lists(st.sampled_from(["logits", "x"]), max_size=2)))
    names = st.lists(st.sampled_from(_INPUTS), max_size=2, unique=True)
    likely = st.sampled_from([["images"], ["image_bytes"], ["inputs"], ["block", "images"]])
    for name in draw(st.one_of(likely, names)):
        tensor = request.inputs[name]
        tensor.dtype = draw(st.sampled_from(sorted(types_pb2.DataType.values())))
        rank = draw(st.one_of(st.integers(0, 5), st.sampled_from([31, 32, 33, 64, 65, 255, 300])))
        sizes = st.sampled_from([1] if rank > 5 else _SIZES)
        for _ in range(rank):
            tensor.tensor_shape.dim.add(size=draw(sizes))
        tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
        tensor.half_val.extend(draw(st.lists(st.integers(0, 65535), max_size=3)))
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=30), max_size=3)))
        tensor.tensor_content = draw(st.binary(max_size=40))
    data: bytes = request.SerializeToString()
    return draw(damaged(data)) if data and draw(st.booleans()) else data


_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=9),
    st.builds(lambda text: {"b64": text}, st.text("QUJD=\n?", max_size=12)),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*_INPUTS, "b64"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@st.composite
def rest_calls(draw: Any) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of a REST call."""
    if draw(st.integers(0, 3)):
        # As a client would, but for the values.
        what = draw(st.sampled_from(["predict", "classify", "regress"]))
        key = "examples" if what != "predict" else draw(st.sampled_from(["instances", "inputs"]))
        document = {key: draw(_VALUES), "signature_name": draw(st.sampled_from(_NAMES))}
        return "POST", f"/v1/models/{MODEL}:{what}", json.dumps(document).encode(), {}
    method = draw(st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT"]))
    choice = draw(st.sampled_from(["", "/versions/1", "/versions/" + "9" * 30, "/labels/x"]))
    what = draw(st.sampled_from([":predict", ":classify", ":regress", "/metadata", "", ":x"]))
    model = draw(st.sampled_from([MODEL, MODEL, "none", "%2f", "%ff", ""]))
    document = draw(
        st.dictionaries(
            st.sampled_from(["instances", "inputs", "examples", "signature_name", "context"]),
            st.one_of(_VALUES, st.sampled_from(_NAMES)),
            max_size=3,
        )
    )
    body = json.dumps(document).encode()
    if draw(st.booleans()):
        body = draw(damaged(body))
    headers = draw(st.sampled_from([{}, {}, {"Content-Encoding": "gzip"}, {"Host": "x.example"}]))
    return method, f"/v1/models/{model}{choice}{what}", body, dict(headers)
