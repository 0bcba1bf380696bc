"""The graphs of a model that its signatures and its call as a layer run.

A model is blocks of two kinds, repeated up to 48 times. Each kind is traced once, as a function of
its inputs and its weights, and called for every block with that block's weights. So a graph of the
whole model is a few nodes a block, and can be traced anew wherever other outputs are wanted.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
import tf_keras

from signatures import Head
from signatures.functions import BlockAttention, ForwardOutputs

from ..compute import ComputeDtype
from ..names import attention_name, ca_block_name, sa_block_name
from ..variants import CaiTConfig
from .inference import attention_bias, self_attention_block

# Where stock layers keep their weights.
_WEIGHT_ATTRIBUTES = ("kernel", "bias", "gamma", "beta", "embeddings")

# Of a block: its tokens, and its attention in the parts in which it is computed, none if it is not.
Outputs = tuple[tf.Tensor, Sequence[tf.Tensor]]
Body = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], Outputs]
# A block's name, its tokens and its attention in parts -> the tokens that go on.
After = Callable[[str, tf.Tensor, Sequence[tf.Tensor]], tf.Tensor]


class Forward:
    """What a classifier and its feature extractor compute, for all that call them.

    Both run the same functions of the blocks; the head comes after them.

    Args:
        classifier: what `build_classifier` returned.
        config: what it was built from.
        dtype: what the signatures' products are computed in.
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
        # A function holds all of its outputs until it returns, so the one that signatures share
        # has no self-attention among them: all blocks of the largest model are 1.8 GiB an image.
        self._without = tf_keras.Model(classifier.input, outputs, name="cait")
        attention = [self_attention[attention_name(name)] for name in self.blocks]
        self._with = tf_keras.Model(classifier.input, outputs + attention, name="cait")
        self._attention = tf_keras.Model(classifier.input, attention, name="cait")
        block, class_block = (
            classifier.get_layer(kind[0]) for kind in (self.blocks, self.class_blocks)
        )
        class_function = _SharedFunction(class_block)
        self._functions = _for_all(self.class_blocks, class_function) | _for_all(
            self.blocks, _SharedFunction(block)
        )
        lean_functions = _for_all(self.class_blocks, class_function) | _for_all(
            self.blocks, _SharedFunction(block, _inference(config, block, dtype, attention=False))
        )
        self._attention_functions = _for_all(
            self.blocks, _SharedFunction(block, _inference(config, block, dtype, attention=True))
        )
        self._lean = self._trace(
            "forward", functools.partial(self._call, self._without, lean_functions)
        )

    def lean(self, images: tf.Tensor) -> ForwardOutputs:
        """Everything but the self-attention, by a call of one function that all callers share."""
        features, *class_attention = self._lean(images)
        return ForwardOutputs(features, class_attention)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """The classifier's head: (B, D) -> (B, K)."""
        return self._head(features)

    def self_attention(self, images: tf.Tensor, counts: tf.Tensor) -> list[BlockAttention]:
        """The self-attention of every block, traced where this is called.

        Args:
            images: (B, S, S, 3) float32.
            counts: (blocks,) int32, how many images, the first ones, go on after each block.
        """
        # For all blocks at once, so that there are few nodes for each.
        sizes = tf.stack([counts * self._patches, tf.fill((len(self.blocks),), -1)], axis=1)
        size_after = dict(zip(self.blocks, tf.unstack(sizes, num=len(self.blocks)), strict=True))
        origin = tf.zeros((2,), tf.int32)
        parts: dict[str, Sequence[tf.Tensor]] = {}

        def leave(name: str, tokens: tf.Tensor, attention: Sequence[tf.Tensor]) -> tf.Tensor:
            parts[name] = attention
            going_on = tf.slice(tokens, origin, size_after[name])
            going_on.set_shape(tokens.shape)
            return going_on

        self._call(self._attention, self._attention_functions, images, after=leave)
        return [
            BlockAttention(parts[name], _attention_bias(self._attention.get_layer(name)))
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
                _named(self.blocks, attention[split:]),
                _named(self.class_blocks, attention[:split]),
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
                    self._call,
                    self._with if attention else self._without,
                    self._functions,
                    training=training,
                ),
            )
        return self._as_layer[training, attention]

    @staticmethod
    def _call(
        model: tf_keras.Model,
        functions: Mapping[str, "_SharedFunction"],
        images: tf.Tensor,
        training: bool = False,
        after: After | None = None,
    ) -> list[tf.Tensor]:
        with _calling(functions, model, after):
            outputs: list[tf.Tensor] = model(images, training=training)
        return outputs

    def _trace(
        self, name: str, call: Callable[[tf.Tensor], list[tf.Tensor]]
    ) -> tf.types.experimental.ConcreteFunction:
        def run(images: tf.Tensor) -> list[tf.Tensor]:
            return call(images)

        run.__name__ = name
        # Concrete: a polymorphic one would be traced once more by the writer.
        return tf.function(run, autograph=False).get_concrete_function(self.spec)


def _for_all(names: Sequence[str], function: "_SharedFunction") -> dict[str, "_SharedFunction"]:
    return dict.fromkeys(names, function)


def _inference(
    config: CaiTConfig, block: tf_keras.Model, dtype: ComputeDtype, attention: bool
) -> Body:
    """The body of `export.saved_model.inference` for blocks that are built as this one."""
    order = [name for name, _ in _named_weights(block)]

    def body(inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> Outputs:
        tokens, _ = inputs
        named = dict(zip(order, weights, strict=True))
        # Where images leave the model after a block, XLA would compile for every number of them.
        with tf.xla.experimental.jit_scope(False) if attention else contextlib.nullcontext():
            tokens, without_bias = self_attention_block(config, tokens, named, dtype)
        return tokens, without_bias if attention else []

    return body


def _attention_bias(block: tf_keras.Model) -> tf.Tensor:
    return attention_bias(dict(_named_weights(block)))


def _named_weights(block: tf_keras.Model) -> list[tuple[str, tf.Variable]]:
    """Weights in the order of the block, by the names of `export.saved_model.inference`."""
    names = {
        id(layer.__dict__[attribute]): f"{layer.name}/{attribute}"
        for layer in block.layers
        for attribute in _WEIGHT_ATTRIBUTES
        if attribute in layer.__dict__
    }
    return [(names[id(variable)], variable) for variable in block.weights]


def _named(blocks: Sequence[str], attention: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    return {attention_name(b): a for b, a in zip(blocks, attention, strict=True)}


class _SharedFunction:
    """A kind of block as a function of its inputs and its weights.

    All blocks of a kind are built alike, so the operations of one of them are those of all.
    """

    def __init__(self, block: tf_keras.Model, body: Body | None = None) -> None:
        def run(
            inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor], training: bool
        ) -> Outputs:
            if body is not None:
                return body(inputs, weights)
            with _substituted(block, weights):
                # The class's, because the instance's is what comes here.
                tokens, attention = type(block).call(block, inputs, training=training)
            return tokens, [attention]

        # It is seen in a server's profiles.
        run.__name__ = block.name.rstrip("_0123456789")
        # At the first run of a signature its graph is optimised, for seconds if the blocks are all
        # in it: a function that is called is optimised once for all of them. The blocks of layers
        # can be, as gradients are taken through them.
        attributes = {"_noinline": True} if body is not None else None
        self._run = tf.function(run, autograph=False, experimental_attributes=attributes)

    def of(
        self, block: tf_keras.Model, after: After | None = None
    ) -> Callable[..., Sequence[tf.Tensor | None]]:
        """What `block.call` takes and returns.

        Args:
            block: one of this kind.
            after: makes what goes to the next block of the block's name, its tokens and all parts
                of its attention. Keras is given the only part, or None.
        """

        def call(
            inputs: Sequence[tf.Tensor], training: bool | None = None, mask: object = None
        ) -> Sequence[tf.Tensor | None]:
            weights = [variable.value() for variable in block.weights]
            tokens, attention = self._run(list(inputs), weights, bool(training))
            if after is not None:
                tokens = after(block.name, tokens, attention)
            return [tokens, attention[0] if len(attention) == 1 else None]

        return call


@contextlib.contextmanager
def _calling(
    functions: Mapping[str, _SharedFunction],
    model: tf_keras.Model,
    after: After | None,
) -> Iterator[None]:
    """A model whose blocks call the functions of their kinds."""
    blocks = [model.get_layer(name) for name in functions]
    for block in blocks:
        block.__dict__["call"] = functions[block.name].of(block, after)
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["call"]


@contextlib.contextmanager
def _substituted(block: tf_keras.Model, weights: Sequence[tf.Tensor]) -> Iterator[None]:
    """A block whose layers have these tensors for the variables in `block.weights`."""
    tensors = {id(v): tensor for v, tensor in zip(block.weights, weights, strict=True)}
    changed = []
    for layer in block.layers:
        for attribute in _WEIGHT_ATTRIBUTES:
            variable = layer.__dict__.get(attribute)
            if id(variable) in tensors:
                # Not by `setattr`: Keras would take the tensor for a change of the layer.
                layer.__dict__[attribute] = tensors.pop(id(variable))
                changed.append((layer, attribute, variable))
    assert not tensors, f"{block.name} has weights in layers of a kind that is not known here"
    try:
        yield
    finally:
        for layer, attribute, variable in changed:
            layer.__dict__[attribute] = variable
