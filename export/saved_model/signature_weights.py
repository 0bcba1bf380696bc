"""The weights that signatures read where they compute in bfloat16, or for several requests.

These weights are copies, beside those that the call as a layer and Keras read. They take in what is
multiplied and added beside their product: the scale and the shift of the LayerNorm before it, or
LayerScale after it. That saves two passes over all tokens, or one. For one request at a time in
float32, signatures read the model's own weights: a copy is as large as the model.

In bfloat16, a cast in the graph would run in every request: of the weights of cait_s24_224 it took
a twelfth of the time. So the copies are rounded once, after they are multiplied. oneDNN brings the
weights of a product into the form of its kernels, too: of a variable in every run, of a constant
once. Constants take several times their size in memory for each signature that runs, so that few
signatures have them. In float32 the copies are variables.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..compute import Compute

Weight: TypeAlias = "tf.Variable | npt.NDArray[Any]"

_PRODUCTS = ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2")
"""The layers of a self-attention block whose weights are worth it. Those that mix heads are small,
and one of them is scaled in float32 first."""

_NORMS = {"norm1": "attn_qkv", "norm2": "mlp_fc1"}
"""LayerNorm -> the product that it is before."""

_LAYER_SCALES = {"gamma_1": "attn_proj", "gamma_2": "mlp_fc2"}
"""LayerScale -> the product that it is after."""

MOST_CONSTANTS = 256 << 20
"""Bytes of the constants of a model. The M variants, whose are more, keep variables: to convert
cait_m36_384 with 0.5 GB of constants took 14 GB."""


@dataclasses.dataclass(frozen=True)
class BlockWeights:
    """The weights of all self-attention blocks, as some signatures read them.

    Attributes:
        names: `<layer>/<attribute>` of a block's weights.
        of_block: block -> its weights, in this order.
    """

    names: Sequence[str]
    of_block: Mapping[str, Sequence[Weight]]

    def named(self, block: str) -> dict[str, Weight]:
        """The weights of a block by their names."""
        return dict(zip(self.names, self.of_block[block], strict=True))


class SignatureWeights:
    """The weights of all self-attention blocks, as the signatures read them.

    Args:
        weights: the float32 variables.
        compute: how the signatures compute. Nothing is copied for one request at a time in float32.

    Attributes:
        shared: what signatures read.
        made: the variables among these that are not the model's.
        constants: the same with constants, for the signatures with the main output alone; None
            where these have no form of their own.
    """

    def __init__(self, weights: BlockWeights, compute: Compute) -> None:
        self.shared = weights
        self.made: list[tf.Variable] = []
        self.constants: BlockWeights | None = None
        if compute == Compute(dtype="float32", profile="latency"):
            return
        named = {block: weights.named(block) for block in weights.of_block}
        # In float32 constants gain nothing under load.
        wanted = compute.dtype != "float32" and compute.profile == "throughput"
        first = next(iter(named.values()))
        if wanted and len(named) * _size(self._copies(first, compute.dtype)) <= MOST_CONSTANTS:
            copies = {block: self._copies(row, compute.dtype) for block, row in named.items()}
            self.constants = _in_order(copies)
            return
        # Block by block: all copies of the largest model are 1.4 GB.
        kept = {block: self._kept(row, compute.dtype) for block, row in named.items()}
        self.shared = _in_order(kept)

    def _copies(self, weights: Mapping[str, Weight], dtype: str) -> dict[str, Weight]:
        merged = merged_weights(weights)
        return {name: self._copied(name, value, dtype) for name, value in merged.items()}

    def _copied(self, name: str, value: Weight, dtype: str) -> Weight:
        if name.split("/")[0] not in _PRODUCTS:
            return value
        return tf.cast(value, dtype).numpy()

    def _kept(self, weights: Mapping[str, Weight], dtype: str) -> dict[str, Weight]:
        copies = self._copies(weights, dtype)
        return {name: self._variable(copies[name], weights[name], dtype) for name in copies}

    def _variable(self, value: Weight, of_model: Any, dtype: str) -> tf.Variable:
        if value is of_model:
            return of_model
        name = f"{of_model.name.partition(':')[0]}_{dtype}"
        made = tf.Variable(value, trainable=False, name=name)
        self.made.append(made)
        return made


def merged_weights(weights: Mapping[str, Weight]) -> dict[str, Weight]:
    """The weights of a block, with norms and LayerScale multiplied into the products beside them.

    Args:
        weights: `<layer>/<attribute>` -> a float32 variable.

    Returns:
        The same without the norms and LayerScale; what was multiplied is a float32 array.
    """
    factors = {*_NORMS, *_LAYER_SCALES}
    merged: dict[str, Weight] = {
        name: weight for name, weight in weights.items() if name.split("/")[0] not in factors
    }
    arrays = {name: np.asarray(weight) for name, weight in weights.items()}
    for norm, product in _NORMS.items():
        kernel, bias = arrays[f"{product}/kernel"], arrays[f"{product}/bias"]
        merged[f"{product}/kernel"] = arrays[f"{norm}/gamma"][:, np.newaxis] * kernel
        # A product by a library would depend on the processor in its last digits.
        shift = (arrays[f"{norm}/beta"].astype(np.float64)[:, np.newaxis] * kernel).sum(0)
        merged[f"{product}/bias"] = (bias + shift).astype(np.float32)
    for layer_scale, product in _LAYER_SCALES.items():
        scale = arrays[f"{layer_scale}/kernel"].reshape(-1)
        for name in (f"{product}/kernel", f"{product}/bias"):
            merged[name] = arrays[name] * scale
    return merged


def _in_order(weights: Mapping[str, Mapping[str, Weight]]) -> BlockWeights:
    names = list(next(iter(weights.values())))
    return BlockWeights(names, {block: [row[n] for n in names] for block, row in weights.items()})


def _size(copies: Mapping[str, Weight]) -> int:
    """Bytes of what was copied of a block."""
    return sum(value.nbytes for value in copies.values() if not isinstance(value, tf.Variable))
