"""CaiT as one would first write it with stock Keras layers: what the published form is held to.

Tokens are (B, N, D) throughout. The talking heads are `Dense` layers on the last axis, so each
attention tensor is transposed to (B, N, N, H) and back twice a block. There is one signature, and
it returns the attention of every block. The arithmetic is timm's.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tf_keras import layers

from export.variants import LAYER_NORM_EPSILON, CaiTConfig
from export.weights import expected_shapes

Array = npt.NDArray[np.float32]
Outputs = dict[str, tf.Tensor]


class PlainPort(tf.Module):
    """The classifier, of layers under timm's names.

    Args:
        config: its sizes.
        tensors: timm's keys -> arrays in timm's layout.
    """

    def __init__(self, config: CaiTConfig, tensors: Mapping[str, Array]) -> None:
        super().__init__()
        self._config = config
        self._layers: dict[str, layers.Layer] = {}
        # What is in no stock layer: tokens, positions, LayerScale.
        self._weights: dict[str, tf.Variable] = {}
        for key in expected_shapes(config):
            module, _, kind = key.rpartition(".")
            if kind not in ("weight", "bias"):
                self._weights[key] = tf.Variable(tensors[key])
            elif kind == "weight":
                self._add(module, tensors[key], tensors[f"{module}.bias"])

    def _add(self, module: str, weight: Array, bias: Array) -> None:
        patch = self._config.patch_size
        layer: layers.Layer
        if weight.ndim == 1:
            layer = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON)
            layer.build((None, None, len(weight)))
        elif weight.ndim == 2:
            layer = layers.Dense(len(weight))
            layer.build((None, None, weight.shape[1]))
            weight = weight.T
        else:
            layer = layers.Conv2D(len(weight), patch, patch)
            layer.build((None, None, None, 3))
            weight = weight.transpose(2, 3, 1, 0)
        layer.set_weights([weight, bias])
        self._layers[module] = layer

    def __call__(self, images: tf.Tensor) -> Outputs:
        """Logits (B, K) and the attention of every block of images (B, S, S, 3)."""
        config = self._config
        outputs: Outputs = {}
        x = self._layers["patch_embed.proj"](images)
        x = tf.reshape(x, (-1, config.patches, config.embed_dim)) + self._weights["pos_embed"]
        for i in range(config.sa_blocks):
            name = f"blocks.{i}"
            y, attention = self._talking_heads(f"{name}.attn", self._layers[f"{name}.norm1"](x))
            x = self._residual(name, x, y)
            outputs[f"sa_ffn_block_{i}_att"] = attention
        token = tf.repeat(self._weights["cls_token"], tf.shape(x)[0], axis=0)
        for i in range(config.ca_blocks):
            name = f"blocks_token_only.{i}"
            u = self._layers[f"{name}.norm1"](tf.concat([token, x], axis=1))
            y, attention = self._class_attention(f"{name}.attn", u)
            token = self._residual(name, token, y)
            outputs[f"ca_ffn_block_{i}_att"] = attention
        x = self._layers["norm"](tf.concat([token, x], axis=1))
        return {"logits": self._layers["head"](x[:, 0]), **outputs}

    def _residual(self, block: str, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        x = x + self._weights[f"{block}.gamma_1"] * y
        y = self._layers[f"{block}.mlp.fc1"](self._layers[f"{block}.norm2"](x))
        y = self._layers[f"{block}.mlp.fc2"](tf.nn.gelu(y))
        return x + self._weights[f"{block}.gamma_2"] * y

    def _talking_heads(self, name: str, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        heads, dim = self._config.heads, self._config.embed_dim
        qkv = self._layers[f"{name}.qkv"](x)
        qkv = tf.reshape(qkv, (-1, self._config.patches, 3, heads, dim // heads))
        q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
        attention = tf.matmul(q * (dim // heads) ** -0.5, k, transpose_b=True)
        attention = tf.nn.softmax(self._mix(f"{name}.proj_l", attention))
        attention = self._mix(f"{name}.proj_w", attention)
        y = tf.transpose(tf.matmul(attention, v), (0, 2, 1, 3))
        y = tf.reshape(y, (-1, self._config.patches, dim))
        return self._layers[f"{name}.proj"](y), attention

    def _mix(self, name: str, attention: tf.Tensor) -> tf.Tensor:
        mixed = self._layers[name](tf.transpose(attention, (0, 2, 3, 1)))
        return tf.transpose(mixed, (0, 3, 1, 2))

    def _class_attention(self, name: str, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        heads, dim = self._config.heads, self._config.embed_dim

        def split(part: str, x: tf.Tensor) -> tf.Tensor:
            x = tf.reshape(self._layers[f"{name}.{part}"](x), (-1, x.shape[1], heads, dim // heads))
            return tf.transpose(x, (0, 2, 1, 3))

        q = split("q", u[:, :1]) * (dim // heads) ** -0.5
        attention = tf.nn.softmax(tf.matmul(q, split("k", u), transpose_b=True))
        y = tf.transpose(tf.matmul(attention, split("v", u)), (0, 2, 1, 3))
        return self._layers[f"{name}.proj"](tf.reshape(y, (-1, 1, dim))), attention


def write_plain_port(
    config: CaiTConfig, tensors: Mapping[str, Array], directory: pathlib.Path
) -> None:
    """Writes a port as a SavedModel with its one signature, `serving_default`.

    Args:
        config: its sizes.
        tensors: timm's keys -> arrays in timm's layout.
        directory: where to.
    """
    port = PlainPort(config, tensors)
    size = config.image_size
    spec = tf.TensorSpec((None, size, size, 3), tf.float32, name="images")
    function = tf.function(port.__call__, autograph=False, input_signature=[spec])
    tf.saved_model.save(port, str(directory), signatures={"serving_default": function})
