"""How far a model may be from the reference."""

import dataclasses
from collections.abc import Mapping

from export.compute import ComputeDtype


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of the differences.

    Attributes:
        largest: the largest absolute difference allowed, by output; every `..._att` is an
            `attention`.
        tie: classes may change places whose logits, or probabilities, are no further apart by the
            reference than what two of them may differ by. Otherwise none may.
    """

    largest: Mapping[str, float]
    tie: bool = False

    def of(self, output: str) -> float:
        """The bound of an output."""
        return self.largest["attention" if output.endswith("_att") else output]

    def between(self, output: str) -> float:
        """Two classes this far apart or nearer are as good as one another; negative: none are."""
        return 2 * self.of(output) if self.tie else -1.0


BOUNDS: dict[ComputeDtype, Bounds] = {
    "float32": Bounds(
        {
            "logits": 1e-4,
            "features": 1e-4,
            "top1": 0.0,
            "probabilities": 1e-5,
            "scores": 1e-5,
            "classes": 0.0,
            "attention": 1e-5,
        }
    ),
    # Four times what untrained weights of all variants showed, whose logits deviate by 1.
    "bfloat16": Bounds(
        {
            "logits": 0.1,
            "features": 0.1,
            "top1": 0.0,
            "probabilities": 0.02,
            "scores": 0.02,
            "classes": 0.0,
            "attention": 0.02,
        },
        tie=True,
    ),
}
"""By what the products are computed in."""
