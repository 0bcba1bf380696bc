"""What no client may send to TensorFlow gets no further than the outermost wrapper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.model_server.servables.checked import MOST_STRINGS, CheckedServable


class Recording:
    """A servable that keeps what reaches it."""

    signatures: Mapping[str, Any] = {}

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
    assert message == "x:0: 33 dimensions; expected 32 at most"


def test_too_many_strings(inner: Recording) -> None:
    message = refused(inner, np.full((MOST_STRINGS + 1, 1), b"", object))
    assert message == f"x:0: {MOST_STRINGS + 1} strings; expected {MOST_STRINGS} at most"
    CheckedServable(inner).run({"x:0": np.full(MOST_STRINGS, b"", object)}, ["y:0"])
    assert inner.reached
