"""An image of the sample with what the reference makes of it."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.names import attention_name, ca_block_name
from export.reference.forward_pass import ReferenceOutputs, forward
from export.reference.preprocessing import load_pixels, normalize
from export.variants import CaiTConfig

Array = npt.NDArray[Any]
Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclasses.dataclass
class PreparedImage:
    """An image of the sample, and what the reference makes of it.

    Attributes:
        name: for messages.
        encoded: the JPEG or PNG.
        images: (1, S, S, 3) float32, normalised, by the reference's preprocessing.
        tensors: what the reference computes with, by timm's keys.
        attention: whether attention is compared on it.
        label: its class, None where it is not known.
    """

    name: str
    encoded: bytes
    images: Array
    tensors: Tensors
    attention: bool
    label: int | None = None
    _expected: ReferenceOutputs | None = dataclasses.field(default=None, repr=False)
    # By block and digest of what was compared: all blocks of the largest variant are 1.8 GiB.
    _differences: dict[tuple[int, bytes], float] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @property
    def expected(self) -> ReferenceOutputs:
        """The reference's outputs, computed once."""
        if self._expected is None:
            self._expected = forward(self.tensors, self.images)
        return self._expected

    @property
    def expected_by_name(self) -> dict[str, Array]:
        """The reference's outputs by the names that the signatures give them."""
        expected = self.expected
        outputs: dict[str, Array] = {"features": expected.features}
        if expected.logits is not None:
            outputs["logits"] = expected.logits
        for block, attention in enumerate(expected.class_attention):
            outputs[attention_name(ca_block_name(block))] = attention
        return outputs

    def self_attention_differences(self, found: list[tuple[int, Array]]) -> list[float]:
        """How far self-attention is from the reference's at most.

        The models of a variant answer with the same: the reference runs for the first of them, and
        again only for one with other values.

        Args:
            found: numbers of blocks, and what was found of each (1, H, N, N). Empty in the end: an
                array that nobody else has is freed when it has been compared.
        """
        keys = [(block, _digest(array)) for block, array in found]
        waiting = [(key, array) for key, (_, array) in zip(keys, found, strict=True)]
        found.clear()
        if any(key not in self._differences for key in keys):

            def compare(block: int, expected: Array) -> None:
                for key, array in [entry for entry in waiting if entry[0][0] == block]:
                    self._differences[key] = largest_difference(array, expected)
                waiting[:] = [entry for entry in waiting if entry[0][0] != block]

            self._expected = forward(self.tensors, self.images, compare)
        return [self._differences[key] for key in keys]


def largest_difference(found: Array, expected: Array) -> float:
    """Of two arrays of the same shape; NaN if any number is."""
    difference = found - expected
    # In place: the memory of another array of this size would cost more than the values.
    np.abs(difference, out=difference)
    return float(difference.max())


def _digest(array: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def prepare_image(
    name: str,
    encoded: bytes,
    attention: bool,
    config: CaiTConfig,
    tensors: Tensors,
    label: int | None = None,
) -> PreparedImage:
    """Decodes an image, and runs the reference where it is not run for the attention later.

    Raises:
        UndecodableImageError: the image can't be decoded.
    """
    images = normalize(load_pixels(encoded, config.image_size)[np.newaxis])
    prepared = PreparedImage(name, encoded, images, tensors, attention, label)
    if not attention:
        _ = prepared.expected
    return prepared
