"""The weights that signatures read whose products are computed in another type than float32.

A cast in the graph would run in every request: of the weights of cait_s24_224 it took a twelfth of
the time in bfloat16. So these weights are variables of their own, beside those in float32 that the
call as a layer and Keras read. oneDNN brings the weights of a product into the form of its kernels,
too: of a variable in every run, of a constant once. Constants take several times their size in
memory for each signature that runs, so that few signatures have them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy.typing as npt
import tensorflow as tf

from ..compute import Compute

Weight: TypeAlias = "tf.Variable | npt.NDArray[Any]"

_PRODUCTS = ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2")
"""The layers of a self-attention block whose weights are worth it. Those that mix heads are small,
and one of them is scaled in float32 first."""

MOST_CONSTANTS = 256 << 20
"""Bytes of the constants of a model. The M variants, whose are more, keep variables: to convert
cait_m36_384 with 0.5 GB of constants took 14 GB."""


class SignatureWeights:
    """The weights of all self-attention blocks, as the signatures read them.

    Args:
        names: `<layer>/<attribute>` of a block's weights.
        weights: block -> its float32 variables, in this order.
        compute: how the signatures compute. Nothing is made for float32.

    Attributes:
        of_block: block -> what signatures read, in the order of `names`.
        made: the variables among these that are not the model's.
        constants: the same with constants, for the signatures with the main output alone; None
            where these have no form of their own.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Mapping[str, Sequence[tf.Variable]],
        compute: Compute,
    ) -> None:
        self.of_block: Mapping[str, Sequence[tf.Variable]] = weights
        self.made: list[tf.Variable] = []
        self.constants: Mapping[str, Sequence[Weight]] | None = None
        if compute.dtype == "float32":
            # As constants they gain little, and the optimiser merges some of them inexactly.
            return
        narrowed = {
            block: [self._narrowed(*named, compute.dtype) for named in zip(names, row, strict=True)]
            for block, row in weights.items()
        }
        if compute.profile == "throughput" and _size(narrowed) <= MOST_CONSTANTS:
            self.constants = narrowed
            return
        self.of_block = {
            block: [
                before if value is before else self._kept(value, before, compute.dtype)
                for value, before in zip(row, weights[block], strict=True)
            ]
            for block, row in narrowed.items()
        }

    def _narrowed(self, name: str, variable: tf.Variable, dtype: str) -> Weight:
        if name.split("/")[0] not in _PRODUCTS:
            return variable
        return tf.cast(variable, dtype).numpy()

    def _kept(self, value: Weight, variable: tf.Variable, dtype: str) -> tf.Variable:
        name = f"{variable.name.partition(':')[0]}_{dtype}"
        made = tf.Variable(value, trainable=False, name=name)
        self.made.append(made)
        return made


def _size(weights: Mapping[str, Sequence[Weight]]) -> int:
    arrays = (value for row in weights.values() for value in row)
    return sum(value.nbytes for value in arrays if not isinstance(value, tf.Variable))
