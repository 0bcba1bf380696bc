"""The differences of a model's outputs from the expected ones: the worst of each so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.compute import ComputeDtype

from ..elements import OutputDifference
from .interface import GateError
from .prepared_image import largest_difference
from .tolerances import TOLERANCES, Tolerances

Array = npt.NDArray[Any]

CALL = "__call__"
"""The call as a layer, in the place of a signature's name."""


class Differences:
    """The worst difference of every output of every signature, beside its tolerance.

    Args:
        dtype: what the products of the signatures are computed in; those of the call are float32.
    """

    def __init__(self, dtype: ComputeDtype) -> None:
        self._dtype: ComputeDtype = dtype
        self._worst: dict[tuple[str, str], OutputDifference] = {}

    @property
    def figures(self) -> tuple[OutputDifference, ...]:
        """The worst difference of every output compared so far."""
        return tuple(self._worst.values())

    def tolerances(self, signature: str) -> Tolerances:
        """Those of a signature, or of the call."""
        return TOLERANCES["float32" if signature == CALL else self._dtype]

    def compare_all(
        self,
        signature: str,
        outputs: Mapping[str, Array],
        expected: Mapping[str, Array],
        image: str,
    ) -> None:
        """Compares a signature's outputs for one image, and the best class where logits are there.

        Args:
            signature: its name.
            outputs: by name, each (1, ...).
            expected: at least those, by name.
            image: what it is called in a report.

        Raises:
            GateError: a shape is wrong.
        """
        for name, found in outputs.items():
            self.compare(signature, name, found, expected[name], image)
            if name == "logits":
                ((best,), (right,)) = np.argmax(found, -1), np.argmax(expected[name], -1)
                lead = expected[name][0, right] - expected[name][0, best]
                differs = best != right and lead > self.tolerances(signature).logit_tie
                self.record(signature, "top1", float(differs), image)

    def compare(
        self, signature: str, output: str, found: Array, expected: Array, image: str
    ) -> None:
        """Compares one output.

        Raises:
            GateError: its shape is wrong.
        """
        check_shape(signature, output, found, expected.shape, image)
        self.record(signature, output, largest_difference(found, expected), image)

    def record(self, signature: str, output: str, difference: float, image: str) -> None:
        """Keeps a difference if it is the worst of its output."""
        tolerance = self.tolerances(signature).of(output)
        figure = OutputDifference(signature, output, difference, tolerance, image)
        key = (signature, output)
        self._worst[key] = figure.worse(self._worst[key]) if key in self._worst else figure


def check_shape(
    signature: str, output: str, found: Array, expected: tuple[int, ...], image: str
) -> None:
    """Compares the shape of an output with the expected one.

    Raises:
        GateError: they differ.
    """
    if found.shape != expected:
        raise GateError(
            f"{signature}: {output} has shape {found.shape} on {image}; expected {expected}"
        )
