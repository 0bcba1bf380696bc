"""One traced function for all blocks of a kind, of their inputs and weights.

All blocks of a kind are built alike, so the operations of one of them, with the weights as
arguments, are those of all. Where they are what Keras's layers do, they are traced from a block by
itself, whose weights are replaced by the arguments meanwhile.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
import tf_keras
from tf_keras import layers

from ..blocks import class_attention_block, self_attention_block
from ..layers import LayerMaker
from ..names import layer_name
from ..variants import CaiTConfig
from .signature_weights import Weight

# The attributes in which stock layers keep their weights.
_WEIGHT_ATTRIBUTES = ("kernel", "bias", "gamma", "beta")

# A block's tokens and the parts of its attention: none where the attention is not computed.
Outputs = tuple[tf.Tensor, Sequence[tf.Tensor]]
# A block's inputs and the values of its weights -> its outputs.
Body = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], Outputs]


class Block:
    """A block by itself, in whose place functions are traced.

    Args:
        model: its inputs -> [tokens, attention], of layers with names that begin with its own.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        self.model = model
        self._owners = [
            (layer, attribute)
            for layer in model.layers
            for attribute in _WEIGHT_ATTRIBUTES
            if isinstance(layer.__dict__.get(attribute), tf.Variable)
        ]

    @property
    def weight_names(self) -> list[str]:
        """`<layer>/<attribute>` of each weight, the layer's without the block's name."""
        prefix = layer_name(self.model.name, "")
        return [
            f"{layer.name.removeprefix(prefix)}/{attribute}" for layer, attribute in self._owners
        ]

    def weights_in(self, name: str, model_layers: dict[str, layers.Layer]) -> list[tf.Variable]:
        """The variables of another block of this kind, in the order of `weight_names`.

        Args:
            name: the other block's name.
            model_layers: the layers of the model that it is in, by name.
        """
        pairs = (weight.split("/") for weight in self.weight_names)
        return [getattr(model_layers[layer_name(name, layer)], at) for layer, at in pairs]

    def call(
        self, inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor], training: bool
    ) -> Outputs:
        """What the layers compute with other weights."""
        with self._weights_replaced(weights):
            tokens, attention = self.model(list(inputs), training=training)
        return tokens, [attention]

    @contextlib.contextmanager
    def _weights_replaced(self, weights: Sequence[tf.Tensor]) -> Iterator[None]:
        variables = [layer.__dict__[attribute] for layer, attribute in self._owners]
        self._set_weights(weights)
        try:
            yield
        finally:
            self._set_weights(variables)

    def _set_weights(self, values: Sequence[object]) -> None:
        for (layer, attribute), value in zip(self._owners, values, strict=True):
            # Not by `setattr`: Keras would take a tensor for a change of the layer.
            layer.__dict__[attribute] = value


def blocks_by_themselves(config: CaiTConfig) -> tuple[Block, Block]:
    """A self-attention block and a class-attention block.

    The inputs of the first are tokens (B, N, D) and the identity matrix (H, H); of the second, the
    class token (B, D) and tokens (B, N, D).
    """
    tokens = layers.Input((config.patches, config.embed_dim), name="tokens")
    heads = layers.Input((config.heads,), name="heads")
    # Their weights are replaced whenever they run.
    make = LayerMaker(config, "sa_ffn_block", initial=False)
    outputs = self_attention_block(make, tokens, heads)
    block = tf_keras.Model([tokens, heads], list(outputs), name=make.block)

    class_token = layers.Input((config.embed_dim,), name="class_token")
    make = make.of("ca_ffn_block")
    outputs = class_attention_block(make, class_token, tokens)
    class_block = tf_keras.Model([class_token, tokens], list(outputs), name=make.block)
    return Block(block), Block(class_block)


class BlockFunction:
    """What all blocks of a kind compute, as one function of their inputs and weights.

    Args:
        block: the kind.
        body: what to compute; the block's own layers when None.
        inlined: whether every call of a body is optimised by itself. A weight that is a constant
            is one to the operations of the body only then.
    """

    def __init__(self, block: Block, body: Body | None = None, inlined: bool = False) -> None:
        def run(
            inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor], training: bool
        ) -> Outputs:
            if body is not None:
                return body(inputs, weights)
            return block.call(inputs, weights, training)

        # The name appears in a server's profiles.
        run.__name__ = block.model.name
        # Inlined, every block would be optimised by itself at the first run of each signature,
        # which takes seconds. A function that is called is optimised once. The blocks' own layers
        # may be inlined: gradients are taken through them.
        attributes = {"_noinline": True} if body is not None and not inlined else None
        # TFLite's converter has no calls. It inlines what is marked as not to be inlined only where
        # a function also says whether XLA must compile it, be it no.
        self._run = tf.function(
            run, autograph=False, jit_compile=False, experimental_attributes=attributes
        )

    def __call__(
        self, inputs: Sequence[tf.Tensor], weights: Sequence[Weight], training: bool = False
    ) -> Outputs:
        """Calls the function.

        Args:
            inputs: the block's.
            weights: the block's, in the order that the body has them in; arrays become constants.
            training: whether dropout acts.
        """
        values = [tf.convert_to_tensor(weight) for weight in weights]
        outputs: Outputs = self._run(list(inputs), values, training)
        return outputs
