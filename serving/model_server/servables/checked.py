"""Checks what a client sends before it shares a batch with other requests or reaches TensorFlow."""

from collections.abc import Mapping, Sequence

from tensorflow.core.protobuf import meta_graph_pb2

from ...errors import invalid_argument
from ...tensors import Array, TensorLimitError, check_dimensions
from .servable import Servable

MOST_STRINGS = 65_536
"""The most strings in a tensor. An empty one is two bytes of a message, and takes hundreds where a
graph looks at the strings one by one."""


class CheckedServable:
    """A `Servable` that refuses requests that TensorFlow would not survive.

    It is the outermost wrapper of a version, so every method of every API goes through it, and a
    refused request fails no other request of its batch.

    Args:
        servable: runs the other requests; closed with this one.
    """

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        return self._servable.signatures

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        for name, array in feeds.items():
            _check(name, array)
        return self._servable.run(feeds, fetches, timeout)

    def close(self) -> None:
        self._servable.close()


def _check(name: str, array: Array) -> None:
    """Checks the value of a tensor of the graph.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    try:
        check_dimensions(array.ndim)
    except TensorLimitError as error:
        raise invalid_argument(f"{name}: {error}") from error
    if array.dtype.kind == "O" and array.size > MOST_STRINGS:
        raise invalid_argument(f"{name}: {array.size} strings; expected {MOST_STRINGS} at most")
