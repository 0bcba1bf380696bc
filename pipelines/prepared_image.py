"""An image of the sample with what the reference makes of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.reference import AttentionSink, ReferenceOutputs, forward
from export.reference_preprocessing import load_pixels, normalize
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

    @property
    def expected(self) -> ReferenceOutputs:
        """The reference's outputs, computed once."""
        return self._expected or self.run_reference()

    def run_reference(self, on_self_attention: AttentionSink | None = None) -> ReferenceOutputs:
        """Runs the reference, and keeps its outputs."""
        self._expected = forward(self.tensors, self.images, on_self_attention)
        return self._expected


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
        prepared.run_reference()
    return prepared
