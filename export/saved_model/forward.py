"""The graphs of a model that its signatures and its call as a layer run.

A model has blocks of two kinds, repeated up to 48 times. Each kind is traced once, as a function of
its inputs and its weights, and called for every block with that block's weights
(`export.saved_model.block_functions`). So a graph of the whole model has a few nodes for each
block, and is cheap to trace again for other outputs.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from signatures import Head
from signatures.functions import BlockAttention, ForwardOutputs

from ..compute import ComputeDtype
from ..names import attention_name, ca_block_name, sa_block_name
from ..variants import CaiTConfig
from .block_functions import BlockFunction, Body, Outputs, call_with_functions, named_weights
from .inference import attention_bias, self_attention_block


class Forward:
    """What a classifier and its feature extractor compute.

    Both run the same functions of the blocks; the head comes after them.

    Args:
        classifier: what `build_classifier` returned.
        config: what it was built from.
        dtype: the type in which the signatures compute products.
    """

    def __init__(
        self, classifier: tf_keras.Model, config: CaiTConfig, dtype: ComputeDtype = "float32"
    ) -> None:
        _, self_attention, class_attention = classifier.output
        self.blocks = [sa_block_name(i) for i in range(config.sa_blocks)]
        self.class_blocks = [ca_block_name(i) for i in range(config.ca_blocks)]
        self.spec = tf.TensorSpec((None, config.image_size, config.image_size, 3), tf.float32)
        self._patches = config.patches
        self._acts_in_training = config.acts_in_training
        self._as_layer: dict[tuple[bool, bool], tf.types.experimental.ConcreteFunction] = {}
        self._head = classifier.get_layer("head")

        outputs = [
            self._head.input,
            *(class_attention[attention_name(name)] for name in self.class_blocks),
        ]
        attention = [self_attention[attention_name(name)] for name in self.blocks]
        # A function keeps all of its outputs until it returns. So the one that signatures share
        # has no self-attention: all blocks of the largest model are 1.8 GiB for one image.
        self._without_self_attention = tf_keras.Model(classifier.input, outputs, name="cait")
        self._complete = tf_keras.Model(classifier.input, outputs + attention, name="cait")
        self._self_attention = tf_keras.Model(classifier.input, attention, name="cait")

        block = classifier.get_layer(self.blocks[0])
        of_class_blocks = dict.fromkeys(
            self.class_blocks, BlockFunction(classifier.get_layer(self.class_blocks[0]))
        )
        self._layer_functions = of_class_blocks | dict.fromkeys(self.blocks, BlockFunction(block))
        inference_functions = of_class_blocks | dict.fromkeys(
            self.blocks, BlockFunction(block, _inference(config, block, dtype, attention=False))
        )
        self._attention_functions = dict.fromkeys(
            self.blocks, BlockFunction(block, _inference(config, block, dtype, attention=True))
        )
        self._shared = self._trace(
            "forward",
            functools.partial(
                call_with_functions, self._without_self_attention, inference_functions
            ),
        )

    def without_self_attention(self, images: tf.Tensor) -> ForwardOutputs:
        """Everything but the self-attention, by a call of one function that all callers share."""
        features, *class_attention = self._shared(images)
        return ForwardOutputs(features, class_attention)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """The classifier's head: (B, D) -> (B, K)."""
        return self._head(features)

    def self_attention(self, images: tf.Tensor, counts: tf.Tensor) -> list[BlockAttention]:
        """The self-attention of every block, traced where this is called.

        Args:
            images: (B, S, S, 3) float32.
            counts: (blocks,) int32: how many images, counted from the first, go on after each
                block.
        """
        # For all blocks at once, so that there are few nodes for each.
        sizes = tf.stack([counts * self._patches, tf.fill((len(self.blocks),), -1)], axis=1)
        size_after = dict(zip(self.blocks, tf.unstack(sizes, num=len(self.blocks)), strict=True))
        origin = tf.zeros((2,), tf.int32)
        parts: dict[str, Sequence[tf.Tensor]] = {}

        def drop_images(name: str, tokens: tf.Tensor, attention: Sequence[tf.Tensor]) -> tf.Tensor:
            parts[name] = attention
            going_on = tf.slice(tokens, origin, size_after[name])
            going_on.set_shape(tokens.shape)
            return going_on

        call_with_functions(
            self._self_attention, self._attention_functions, images, after=drop_images
        )
        return [
            BlockAttention(
                parts[name], attention_bias(named_weights(self._self_attention.get_layer(name)))
            )
            for name in self.blocks
        ]

    def as_call(self, head: Head) -> tf.types.experimental.GenericFunction:
        """`__call__` of the restored object, traced for every combination of its flags."""

        def call(
            images: tf.Tensor, training: bool = False, return_attention: bool = True
        ) -> object:
            acts = bool(training) and self._acts_in_training
            features, *attention = self._run_as_layer(acts, bool(return_attention))(images)
            main = self.logits(features) if head == "classifier" else features
            if not return_attention:
                return main
            split = len(self.class_blocks)
            return (
                main,
                _by_name(self.blocks, attention[split:]),
                _by_name(self.class_blocks, attention[:split]),
            )

        traced = tf.function(call, autograph=False)
        for training in (False, True):
            for return_attention in (True, False):
                traced.get_concrete_function(
                    self.spec, training=training, return_attention=return_attention
                )
        return traced

    def _run_as_layer(
        self, training: bool, attention: bool
    ) -> tf.types.experimental.ConcreteFunction:
        """Traced once for both heads."""
        if (training, attention) not in self._as_layer:
            name = "forward_in_training" if training else "forward_as_layer"
            self._as_layer[training, attention] = self._trace(
                name if attention else f"{name}_without_attention",
                functools.partial(
                    call_with_functions,
                    self._complete if attention else self._without_self_attention,
                    self._layer_functions,
                    training=training,
                ),
            )
        return self._as_layer[training, attention]

    def _trace(
        self, name: str, call: Callable[[tf.Tensor], list[tf.Tensor]]
    ) -> tf.types.experimental.ConcreteFunction:
        def run(images: tf.Tensor) -> list[tf.Tensor]:
            return call(images)

        run.__name__ = name
        # Concrete: the writer would trace a polymorphic function once more.
        return tf.function(run, autograph=False).get_concrete_function(self.spec)


def _inference(
    config: CaiTConfig, block: tf_keras.Model, dtype: ComputeDtype, attention: bool
) -> Body:
    """The body of `export.saved_model.inference`, for all blocks that are built as this one."""
    order = list(named_weights(block))

    def body(inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> Outputs:
        tokens, _ = inputs
        named = dict(zip(order, weights, strict=True))
        # Where images leave the model after a block, XLA would compile for every number of them.
        with tf.xla.experimental.jit_scope(False) if attention else contextlib.nullcontext():
            tokens, without_bias = self_attention_block(config, tokens, named, dtype)
        return tokens, without_bias if attention else []

    return body


def _by_name(blocks: Sequence[str], attention: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    return {attention_name(b): a for b, a in zip(blocks, attention, strict=True)}
