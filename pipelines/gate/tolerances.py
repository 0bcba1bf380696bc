"""How far a model may be from the reference."""

import dataclasses
from collections.abc import Mapping

from export.compute import ComputeDtype


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """Tolerances of the differences.

    Attributes:
        atol: the largest absolute difference allowed, by output; every `..._att` is an
            `attention`.
        logit_tie: classes whose logits are this near to one another may change places; none may
            where it is negative.
    """

    atol: Mapping[str, float]
    logit_tie: float

    def of(self, output: str) -> float:
        """The tolerance of an output."""
        return self.atol["attention" if output.endswith("_att") else output]


TOLERANCES: dict[ComputeDtype, Tolerances] = {
    "float32": Tolerances(
        {
            "logits": 1e-4,
            "features": 1e-4,
            "top1": 0.0,
            "probabilities": 1e-5,
            "scores": 1e-5,
            "classes": 0.0,
            "attention": 1e-5,
        },
        logit_tie=-1.0,
    ),
    # Logits of untrained weights, which deviate by 1, differ by 0.02 in every variant. A
    # probability changes by a quarter of what a logit does, or less.
    "bfloat16": Tolerances(
        {
            "logits": 0.1,
            "features": 0.1,
            "top1": 0.0,
            "probabilities": 0.025,
            "scores": 0.025,
            "classes": 0.0,
            "attention": 0.02,
        },
        # Both may differ by the tolerance.
        logit_tie=0.2,
    ),
}
"""By what the products are computed in."""
