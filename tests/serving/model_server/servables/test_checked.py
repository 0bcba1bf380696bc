"""What no client may send to TensorFlow gets no further than the outermost wrapper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import Code, ServingError
from serving.model_server.servables.checked import MOST_STRINGS, CheckedServable
from tests.support.requests import jpeg, scan_bomb


class Recording:
    """A servable that keeps what reaches it."""

    signatures: Mapping[str, Any] = {"s": meta_graph_pb2.SignatureDef()}
    signatures["s"].inputs["images"].name = "x:0"

    def __init__(self) -> None:
        self.reached: list[Any] = []
        self.closed = False

    def run(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Any]:
        self.reached.append((dict(feeds), fetches, timeout))
        return []

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def inner() -> Recording:
    return Recording()


def refused(inner: Recording, array: Any) -> str:
    """The message with which an array is refused."""
    with pytest.raises(ServingError) as caught:
        CheckedServable(inner).run({"x:0": array}, ["y:0"])
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert not inner.reached
    return caught.value.message


def test_other_requests_are_passed_on(inner: Recording) -> None:
    checked = CheckedServable(inner)
    feeds = {"x:0": np.zeros((1,) * 32), "s:0": np.full((1,) * 32, b"x", object)}
    assert checked.run(feeds, ["y:0"], 3.0) == []
    assert inner.reached == [(feeds, ["y:0"], 3.0)]
    assert checked.signatures is inner.signatures
    checked.close()
    assert inner.closed


@pytest.mark.parametrize("dtype", [object, np.float32])
def test_too_many_dimensions(inner: Recording, dtype: Any) -> None:
    message = refused(inner, np.zeros((1,) * 33, dtype))
    assert message == "images: 33 dimensions; expected 32 at most"


def test_too_many_strings(inner: Recording) -> None:
    message = refused(inner, np.full((MOST_STRINGS + 1, 1), b"", object))
    assert message == f"images: {MOST_STRINGS + 1} strings; expected {MOST_STRINGS} at most"
    CheckedServable(inner).run({"x:0": np.full(MOST_STRINGS, b"", object)}, ["y:0"])
    assert inner.reached


def test_images_of_too_many_scans(inner: Recording) -> None:
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(scan_bomb(3000))
    # What protobuf reads last counts; TensorFlow reads what comes first.
    hidden = example.SerializeToString() + tf.train.Example().SerializeToString()
    for encoded in (scan_bomb(101), example.SerializeToString(), hidden):
        message = refused(inner, np.array([jpeg(), encoded], object))
        assert message.startswith("images: a JPEG with more than 100 scans; expected 100 at most")
    CheckedServable(inner).run({"x:0": np.array([jpeg(), scan_bomb(100)], object)}, ["y:0"])
    assert inner.reached
