"""The stock layers that CaiT is made of, with their names, initial weights and types.

All layers are stock layers, so that `tf_keras.models.load_model` reads a SavedModel of them where
this project is not installed. Therefore a weight that no stock layer has as such (class token,
positions, LayerScale, talking heads) is the kernel of a `Dense` layer without a bias, which is
applied to an identity matrix. So its gradient is a tensor; an `Embedding`'s would be
`IndexedSlices`. The identity matrix is computed from a tensor of the graph: Keras stores a
constant argument of an op as a list, which does not load back.
"""

import dataclasses
from typing import Any, TypeAlias

import tensorflow as tf
import tf_keras
from tf_keras import layers

from .names import layer_name
from .variants import LAYER_NORM_EPSILON, MLP_RATIO, CaiTConfig

# A symbolic tensor: tf_keras has no types.
KerasTensor: TypeAlias = Any

# timm's initial weights: a normal distribution, truncated at two, which is 100 deviations away.
_WEIGHT_STDDEV = 0.02


@dataclasses.dataclass(frozen=True)
class LayerMaker:
    """Makes the layers of a block, or of what is outside of the blocks.

    Products are computed in the compute type of Keras's global policy. The stream of tokens,
    normalisations, softmax and LayerScale stay in the type of the variables, which a policy for
    mixed precision leaves at float32.

    Attributes:
        config: the sizes and the dropout rates.
        block: the block's name; empty outside of the blocks.
        initial: False: kernels are zeros in place of their initial values, because a checkpoint's
            will be assigned to them. Of the largest variant the random numbers take 9 seconds.
    """

    config: CaiTConfig
    block: str = ""
    initial: bool = True

    def of(self, block: str) -> "LayerMaker":
        """The same for the layers of a block."""
        return dataclasses.replace(self, block=block)

    @property
    def compute_dtype(self) -> str:
        """The type of products."""
        dtype: str = tf_keras.mixed_precision.global_policy().compute_dtype
        return dtype

    @property
    def dtype(self) -> str:
        """The type of everything else."""
        dtype: str = tf_keras.mixed_precision.global_policy().variable_dtype
        return dtype

    def narrow(self, x: KerasTensor) -> KerasTensor:
        """A tensor in the type of products."""
        return _cast(x, self.compute_dtype)

    def wide(self, x: KerasTensor) -> KerasTensor:
        """A tensor in the type of everything but products."""
        return _cast(x, self.dtype)

    def name(self, layer: str) -> str:
        """A layer's name in the model."""
        return layer_name(self.block, layer)

    def patch_embed(self, images: KerasTensor) -> KerasTensor:
        """(B, S, S, 3) -> (B, S/P, S/P, D)."""
        config = self.config
        bound = (3 * config.patch_size**2) ** -0.5
        layer = layers.Conv2D(
            config.embed_dim,
            config.patch_size,
            config.patch_size,
            # timm leaves these to PyTorch: uniform, up to one over the root of the inputs' number.
            kernel_initializer=tf_keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            bias_initializer=tf_keras.initializers.RandomUniform(-bound, bound),
            name=self.name("patch_embed"),
        )
        return self._apply(layer, "patch_embed", images)

    def dense(
        self,
        x: KerasTensor,
        units: int,
        name: str,
        activation: str | None = None,
        dtype: str | None = None,
    ) -> KerasTensor:
        """(M, inputs) -> (M, units), in the type of products unless `dtype` says another."""
        layer = layers.Dense(
            units,
            activation,
            kernel_initializer=_normal(),
            name=self.name(name),
            dtype=dtype,
        )
        return self._apply(layer, name, x)

    def layer_norm(self, x: KerasTensor, name: str) -> KerasTensor:
        """Normalises over the last axis."""
        layer = layers.LayerNormalization(
            epsilon=LAYER_NORM_EPSILON, name=self.name(name), dtype=self.dtype
        )
        return self._apply(layer, name, x)

    def weight(
        self, identity: KerasTensor, columns: int, name: str, initial: float | None = None
    ) -> KerasTensor:
        """A weight as a tensor (rows, columns), in the type of the variables.

        Args:
            identity: the identity matrix (rows, rows).
            columns: of the weight.
            name: the layer's, within the block.
            initial: all initial values; None: those of timm's distribution.
        """
        initializer = _normal() if initial is None else tf_keras.initializers.Constant(initial)
        layer = layers.Dense(
            columns,
            use_bias=False,
            kernel_initializer=initializer,
            name=self.name(name),
            dtype=self.dtype,
        )
        return self._apply(layer, name, identity)

    def scaled(self, y: KerasTensor, one: KerasTensor, name: str) -> KerasTensor:
        """LayerScale: a residual branch (..., D) times a vector, in the type of the stream."""
        gamma = self.weight(one, self.config.embed_dim, name, self.config.layer_scale_init)
        return self.wide(y) * gamma

    def mlp(self, x: KerasTensor, dropout_rate: float) -> KerasTensor:
        """(M, D) -> (M, D), with GELU in its exact form."""
        y = self.dense(x, MLP_RATIO * self.config.embed_dim, "mlp_fc1", activation="gelu")
        y = self.dropout(y, dropout_rate, "mlp_drop1")
        y = self.dense(y, self.config.embed_dim, "mlp_fc2")
        return self.dropout(y, dropout_rate, "mlp_drop2")

    def dropout(self, x: KerasTensor, rate: float, name: str) -> KerasTensor:
        """No layer without a rate: each would take time when the model is built and loaded."""
        if not rate:
            return x
        # In the type that it has: the policy's would narrow the stream of tokens.
        return layers.Dropout(rate, name=self.name(name), dtype=x.dtype.name)(x)

    def drop_path(self, y: KerasTensor, name: str) -> KerasTensor:
        """Stochastic depth of a residual branch (B, N, D): an image keeps all of it or none."""
        rate = self.config.drop_path_rate
        if not rate:
            return y
        layer = layers.Dropout(
            rate, noise_shape=(None, 1, 1), name=self.name(name), dtype=self.dtype
        )
        return layer(y)

    def _apply(self, layer: layers.Layer, name: str, x: KerasTensor) -> KerasTensor:
        """Calls a layer after building it in a name scope, so that weights have the block's name.

        Keras builds at the first call, outside of any scope, and `hub.KerasLayer` tracks only one
        weight of each name.
        """
        scopes = f"{self.block}/{name}" if self.block else name
        initializer = getattr(layer, "kernel_initializer", None)
        if initializer is not None and not self.initial:
            layer.kernel_initializer = tf_keras.initializers.Zeros()
        with tf.name_scope(scopes):
            layer.build(x.shape)
        if initializer is not None:
            # What is saved of the layer is the same either way.
            layer.kernel_initializer = initializer
        return layer(x)


def _normal() -> tf_keras.initializers.Initializer:
    return tf_keras.initializers.RandomNormal(stddev=_WEIGHT_STDDEV)


def _cast(x: KerasTensor, dtype: str) -> KerasTensor:
    # No op where there is nothing to cast: it would be a layer of the model.
    return x if x.dtype == dtype else tf.cast(x, dtype)
