"""How the signatures compute: the type of their products, and the load that they are built for."""

import dataclasses
from typing import Literal, get_args

ComputeDtype = Literal["float32", "bfloat16"]
"""With bfloat16 the products of the self-attention blocks take and return bfloat16, and sum in
float32 where the processor has instructions for it. Residuals, normalisations, softmax, inputs and
outputs stay float32, and so does the call as a layer, which fine-tuning uses."""

COMPUTE_DTYPES: tuple[ComputeDtype, ...] = get_args(ComputeDtype)

ServingProfile = Literal["latency", "throughput"]
"""The load that signatures are built for: `latency` for one request at a time, which all cores
share, `throughput` for as many requests at a time as there are cores, or more. With bfloat16 or
`throughput` signatures have copies of the weights, in which the scale and shift of a norm, and
LayerScale, are multiplied into the products beside them."""

SERVING_PROFILES: tuple[ServingProfile, ...] = get_args(ServingProfile)

STREAMS: dict[ServingProfile, int] = {"latency": 2, "throughput": 1}
"""Parts in which an image's tokens go through a self-attention block, which cores work on at the
same time. `docs/tuning.md` has the measurement."""


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the signatures of a model compute.

    Attributes:
        dtype: the type of their products.
        profile: the load that they are built for.
    """

    dtype: ComputeDtype = "float32"
    profile: ServingProfile = "latency"


DEFAULT = Compute()
