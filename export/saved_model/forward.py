"""The graphs of a model that its signatures and its call as a layer run.

A model has blocks of two kinds, repeated up to 48 times. Each kind is traced once, as a function of
its inputs and its weights, and called for every block with that block's weights
(`export.saved_model.block_functions`). So a graph of the whole model has a few nodes for each
block, and is cheap to trace again for other outputs.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras

from signatures import Head
from signatures.functions import BlockAttention, ForwardOutputs

from ..compute import Compute
from ..names import attention_name, ca_block_name, sa_block_name
from ..variants import CaiTConfig
from .block_functions import Block, BlockFunction, Body, Outputs, blocks_by_themselves
from .inference import attention_bias, class_attention_block, self_attention_block
from .signature_weights import BlockWeights, SignatureWeights, Weight

# A block's name, its tokens (B, N, D) and the parts of its attention -> the next block's tokens.
After = Callable[[str, tf.Tensor, Sequence[tf.Tensor]], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Functions:
    """What each kind of block runs, and the weights of the self-attention blocks."""

    self_attention: BlockFunction
    class_attention: BlockFunction
    weights: Mapping[str, Sequence[Weight]]


class Forward:
    """What a classifier and its feature extractor compute.

    Both run the same functions of the blocks; the head comes after them.

    Args:
        classifier: what `build_classifier` returned.
        config: what it was built from.
        compute: how the signatures compute.

    Attributes:
        signature_weights: the weights of self-attention blocks that the signatures read.
    """

    def __init__(self, classifier: tf_keras.Model, config: CaiTConfig, compute: Compute) -> None:
        self.blocks = [sa_block_name(i) for i in range(config.sa_blocks)]
        self.class_blocks = [ca_block_name(i) for i in range(config.ca_blocks)]
        self.spec = tf.TensorSpec((None, config.image_size, config.image_size, 3), tf.float32)
        self._config = config
        self._as_layer: dict[tuple[bool, bool], tf.types.experimental.ConcreteFunction] = {}
        self._layers = {layer.name: layer for layer in classifier.layers}

        block, class_block = blocks_by_themselves(config)
        weights = BlockWeights(block.weight_names, self._weights_of(block, self.blocks))
        self.signature_weights = SignatureWeights(weights, compute)
        shared, constants = self.signature_weights.shared, self.signature_weights.constants
        self._class_weights = self._weights_of(class_block, self.class_blocks)
        self._layer_functions = _Functions(
            BlockFunction(block), BlockFunction(class_block), weights.of_block
        )
        without, with_attention = (
            BlockFunction(block, _inference(config, shared.names, compute, attention))
            for attention in (False, True)
        )
        self._attention_function = with_attention
        of_class_blocks = _class_inference(config, class_block.weight_names)
        inference = _Functions(
            without, BlockFunction(class_block, of_class_blocks), shared.of_block
        )
        # A function keeps all of its outputs until it returns. So the one that signatures share
        # has no self-attention: all blocks of the largest model are 1.8 GiB for one image.
        self._shared = self._trace("forward", lambda images: self._run(images, inference)[:-1])
        self._main = self._shared
        if constants is not None:
            body = _inference(config, constants.names, compute, attention=False)
            inlined = BlockFunction(block, body, inlined=True)
            main = dataclasses.replace(
                inference, self_attention=inlined, weights=constants.of_block
            )
            self._main = self._trace("forward_main", lambda images: self._run(images, main)[:-1])

    def without_self_attention(self, images: tf.Tensor) -> ForwardOutputs:
        """Everything but the self-attention, by a call of one function that all callers share."""
        return ForwardOutputs(*self._shared(images))

    @property
    def has_main(self) -> bool:
        """Whether the main output has a form of its own, with constants."""
        return self._main is not self._shared

    def main(self, images: tf.Tensor) -> ForwardOutputs:
        """As `without_self_attention`, in the form for signatures with the main output alone."""
        return ForwardOutputs(*self._main(images))

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """The classifier's head: (B, D) -> (B, K).

        Raises:
            ValueError: the model has none.
        """
        if "head" not in self._layers:
            raise ValueError("the model has no classification head")
        return self._layers["head"](features)

    def self_attention(self, images: tf.Tensor, counts: tf.Tensor) -> list[BlockAttention]:
        """The self-attention of every block, traced where this is called.

        Args:
            images: (B, S, S, 3) float32.
            counts: (blocks,) int32: how many images, counted from the first, go on after each
                block.
        """
        # For all blocks at once, so that there are few nodes for each.
        sizes = tf.pad(counts[:, tf.newaxis], ((0, 0), (0, 2)), constant_values=-1)
        size_after = dict(zip(self.blocks, tf.unstack(sizes, num=len(self.blocks)), strict=True))
        origin = tf.zeros((3,), tf.int32)
        parts: dict[str, Sequence[tf.Tensor]] = {}

        def drop_images(name: str, tokens: tf.Tensor, attention: Sequence[tf.Tensor]) -> tf.Tensor:
            parts[name] = attention
            going_on = tf.slice(tokens, origin, size_after[name])
            going_on.set_shape(tokens.shape)
            return going_on

        self._run_blocks(
            self._tokens(images),
            self._attention_function,
            self.signature_weights.shared.of_block,
            after=drop_images,
        )
        return [
            BlockAttention(parts[name], attention_bias(self.signature_weights.shared.named(name)))
            for name in self.blocks
        ]

    def as_call(self, head: Head) -> tf.types.experimental.GenericFunction:
        """`__call__` of the restored object, traced for every combination of its flags.

        Images may have 16 bits, too: under one of Keras's policies for mixed precision
        `hub.KerasLayer` narrows what it gets. All is computed in float32 all the same.
        """

        def call(
            images: tf.Tensor, training: bool = False, return_attention: bool = True
        ) -> object:
            if listing:
                return images
            images = tf.cast(images, tf.float32)
            acts = bool(training) and self._config.acts_in_training
            run = self._run_as_layer(acts, bool(return_attention))
            features, class_attention, self_attention = run(images)
            main = self.logits(features) if head == "classifier" else features
            if not return_attention:
                return main
            return (
                main,
                _by_name(self.blocks, self_attention),
                _by_name(self.class_blocks, class_attention),
            )

        traced = tf.function(call, autograph=False)
        # The writer traces again what it finds traced, and takes nothing but the arguments' types.
        listing = True
        flags = itertools.product(
            (tf.float32, tf.bfloat16, tf.float16), (False, True), (True, False)
        )
        for dtype, training, return_attention in flags:
            traced.get_concrete_function(
                tf.TensorSpec(self.spec.shape, dtype),
                training=training,
                return_attention=return_attention,
            )
        listing = False
        return traced

    def _run_as_layer(
        self, training: bool, attention: bool
    ) -> tf.types.experimental.ConcreteFunction:
        """Traced once for both heads."""

        def run(images: tf.Tensor) -> _Results:
            results = self._run(images, self._layer_functions, training)
            return results if attention else (results[0], [], [])

        if (training, attention) not in self._as_layer:
            name = "forward_in_training" if training else "forward_as_layer"
            name = name if attention else f"{name}_without_attention"
            self._as_layer[training, attention] = self._trace(name, run)
        return self._as_layer[training, attention]

    def _run(self, images: tf.Tensor, functions: _Functions, training: bool = False) -> "_Results":
        """The model, by the functions of its blocks."""
        tokens, self_attention = self._run_blocks(
            self._tokens(images, training), functions.self_attention, functions.weights, training
        )
        class_token = tf.tile(self._layers["cls_token"].kernel, (tf.shape(tokens)[0], 1))
        class_attention = []
        for name in self.class_blocks:
            class_token, (attention,) = functions.class_attention(
                (class_token, tokens), self._class_weights[name], training
            )
            class_attention.append(attention)
        return self._layers["norm"](class_token), class_attention, self_attention

    def _tokens(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Images (B, S, S, 3) -> the first block's tokens (B, N, D)."""
        tokens = self._layers["patches"](self._layers["patch_embed"](images))
        tokens += self._layers["pos_embed"].kernel
        if "pos_drop" in self._layers:
            tokens = self._layers["pos_drop"](tokens, training=training)
        return tokens

    def _run_blocks(
        self,
        tokens: tf.Tensor,
        function: BlockFunction,
        weights: Mapping[str, Sequence[Weight]],
        training: bool = False,
        after: After | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The self-attention blocks: the tokens after the last, and all parts of the attention."""
        heads = tf.eye(self._config.heads)
        parts: list[tf.Tensor] = []
        for name in self.blocks:
            tokens, attention = function((tokens, heads), weights[name], training)
            parts += attention
            if after is not None:
                tokens = after(name, tokens, attention)
        return tokens, parts

    def _weights_of(self, kind: Block, names: Sequence[str]) -> dict[str, list[tf.Variable]]:
        return {name: kind.weights_in(name, self._layers) for name in names}

    def _trace(
        self, name: str, call: Callable[[tf.Tensor], object]
    ) -> tf.types.experimental.ConcreteFunction:
        def run(images: tf.Tensor) -> object:
            return call(images)

        run.__name__ = name
        # Concrete: the writer would trace a polymorphic function once more.
        return tf.function(run, autograph=False).get_concrete_function(self.spec)


# Features, the class attention of each block and the self-attention of each block.
_Results = tuple[tf.Tensor, Sequence[tf.Tensor], Sequence[tf.Tensor]]


def _inference(
    config: CaiTConfig, weight_names: Sequence[str], compute: Compute, attention: bool
) -> Body:
    """The body of `export.saved_model.inference`, with weights in this order."""

    def body(inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> Outputs:
        tokens, _ = inputs
        named = dict(zip(weight_names, weights, strict=True))
        # Where images leave the model after a block, XLA would compile for every number of them.
        with tf.xla.experimental.jit_scope(False) if attention else contextlib.nullcontext():
            tokens, without_bias = self_attention_block(config, tokens, named, compute)
        return tokens, without_bias if attention else []

    return body


def _class_inference(config: CaiTConfig, weight_names: Sequence[str]) -> Body:
    def body(inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> Outputs:
        class_token, tokens = inputs
        named = dict(zip(weight_names, weights, strict=True))
        class_token, attention = class_attention_block(config, class_token, tokens, named)
        return class_token, [attention]

    return body


def _by_name(blocks: Sequence[str], attention: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    return {attention_name(b): a for b, a in zip(blocks, attention, strict=True)}
