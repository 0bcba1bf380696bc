"""Checks what a client sends before it shares a batch with other requests or reaches TensorFlow."""

from collections.abc import Mapping, Sequence

from tensorflow.core.protobuf import meta_graph_pb2

from signatures.image_header import ImageHeaderError, check_scans

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
            try:
                _check(array)
            except (TensorLimitError, ImageHeaderError) as error:
                raise invalid_argument(f"{self._alias(name)}: {error}") from error
        return self._servable.run(feeds, fetches, timeout)

    def close(self) -> None:
        self._servable.close()

    def _alias(self, name: str) -> str:
        """The name that clients have for a tensor of the graph."""
        for signature in self.signatures.values():
            for alias, tensor in signature.inputs.items():
                if tensor.name == name:
                    return str(alias)
        return name


def _check(array: Array) -> None:
    """Checks the value of an input. The graph says what else is wrong with an image.

    Raises:
        TensorLimitError: it has too many dimensions or strings.
        ImageHeaderError: an image in its strings has too many scans.
    """
    check_dimensions(array.ndim)
    if array.dtype.kind != "O":
        return
    if array.size > MOST_STRINGS:
        raise TensorLimitError(f"{array.size} strings; expected {MOST_STRINGS} at most")
    for encoded in array.flat:
        check_scans(encoded)
