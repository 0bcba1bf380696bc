"""The weights that signatures read whose products are computed in another type than float32.

A cast in the graph would run in every request: of the weights of cait_s24_224 it took a twelfth of
the time in bfloat16. So these weights are variables of their own, beside those in float32 that the
call as a layer and Keras read.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from ..compute import ComputeDtype

_PRODUCTS = ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2")
"""The layers of a self-attention block whose weights are worth it. Those that mix heads are small,
and one of them is scaled in float32 first."""


class SignatureWeights:
    """The weights of all self-attention blocks, as the signatures read them.

    Args:
        names: `<layer>/<attribute>` of a block's weights.
        weights: block -> its float32 variables, in this order.
        dtype: the type of the products; nothing is made for float32.

    Attributes:
        of_block: block -> what its signatures read, in the order of `names`.
        made: the variables among these that are not the model's.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Mapping[str, Sequence[tf.Variable]],
        dtype: ComputeDtype,
    ) -> None:
        self.made: list[tf.Variable] = []
        self.of_block: dict[str, Sequence[tf.Variable]] = dict(weights)
        if dtype == "float32":
            return
        for block, variables in weights.items():
            self.of_block[block] = [
                self._narrowed(variable, dtype) if name.split("/")[0] in _PRODUCTS else variable
                for name, variable in zip(names, variables, strict=True)
            ]

    def _narrowed(self, variable: tf.Variable, dtype: ComputeDtype) -> tf.Variable:
        name = f"{variable.name.partition(':')[0]}_{dtype}"
        made = tf.Variable(tf.cast(variable, dtype), trainable=False, name=name)
        self.made.append(made)
        return made
