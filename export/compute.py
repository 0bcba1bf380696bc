"""The type in which the signatures compute products."""

from typing import Literal, get_args

ComputeDtype = Literal["float32", "bfloat16"]
"""With bfloat16 the products of the self-attention blocks take and return bfloat16, and sum in
float32 where the processor has instructions for it. Weights, residuals, normalisations, softmax,
inputs and outputs stay float32. So does the call as a layer, which fine-tuning uses."""

COMPUTE_DTYPES: tuple[ComputeDtype, ...] = get_args(ComputeDtype)
