"""One traced function for all blocks of a kind, which they call in the place of their layers.

All blocks of a kind are built alike, so the operations of one of them, with the weights as
arguments, are those of all. Keras still runs the model: only while `call_with_functions` traces it,
each block has the function of its kind as its `call`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
import tf_keras

# The attributes in which stock layers keep their weights.
_WEIGHT_ATTRIBUTES = ("kernel", "bias", "gamma", "beta", "embeddings")

# A block's tokens and the parts of its attention: none where the attention is not computed.
Outputs = tuple[tf.Tensor, Sequence[tf.Tensor]]
# A block's inputs and the values of its weights -> its outputs.
Body = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], Outputs]
# A block's name, its tokens and the parts of its attention -> the tokens for the next block.
After = Callable[[str, tf.Tensor, Sequence[tf.Tensor]], tf.Tensor]


class BlockFunction:
    """What all blocks of a kind compute, as one function of their inputs and weights.

    Args:
        block: any block of the kind.
        body: what to compute; the block's own layers when None.
    """

    def __init__(self, block: tf_keras.Model, body: Body | None = None) -> None:
        def run(
            inputs: Sequence[tf.Tensor], weights: Sequence[tf.Tensor], training: bool
        ) -> Outputs:
            if body is not None:
                return body(inputs, weights)
            with _weights_replaced(block, weights):
                # The class's method: the instance's is replaced by `call_with_functions`.
                tokens, attention = type(block).call(block, inputs, training=training)
            return tokens, [attention]

        # The name appears in a server's profiles.
        run.__name__ = block.name.rstrip("_0123456789")
        # Inlined, every block would be optimised by itself at the first run of each signature,
        # which takes seconds. A function that is called is optimised once. The blocks' own layers
        # may be inlined: gradients are taken through them.
        attributes = {"_noinline": True} if body is not None else None
        self._run = tf.function(run, autograph=False, experimental_attributes=attributes)

    def of(
        self, block: tf_keras.Model, after: After | None = None
    ) -> Callable[..., Sequence[tf.Tensor | None]]:
        """A replacement for `block.call`, which calls the function with the block's weights.

        Args:
            block: a block of this kind.
            after: computes the tokens for the next block.

        Returns:
            A function that returns the tokens, and the attention where it has exactly one part;
            None otherwise.
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


def call_with_functions(
    model: tf_keras.Model,
    functions: Mapping[str, BlockFunction],
    images: tf.Tensor,
    training: bool = False,
    after: After | None = None,
) -> list[tf.Tensor]:
    """Calls a model whose blocks call the functions of their kinds.

    Args:
        model: the model.
        functions: the name of each of its blocks -> the function of its kind.
        images: (B, S, S, 3) float32.
        training: as in a call of the model.
        after: as in `BlockFunction.of`.
    """
    blocks = [model.get_layer(name) for name in functions]
    for block in blocks:
        block.__dict__["call"] = functions[block.name].of(block, after)
    try:
        outputs: list[tf.Tensor] = model(images, training=training)
    finally:
        for block in blocks:
            del block.__dict__["call"]
    return outputs


def named_weights(block: tf_keras.Model) -> dict[str, tf.Variable]:
    """`<layer>/<attribute>` -> variable, in the order of `block.weights`."""
    names = {
        id(layer.__dict__[attribute]): f"{layer.name}/{attribute}"
        for layer in block.layers
        for attribute in _WEIGHT_ATTRIBUTES
        if attribute in layer.__dict__
    }
    return {names[id(variable)]: variable for variable in block.weights}


@contextlib.contextmanager
def _weights_replaced(block: tf_keras.Model, weights: Sequence[tf.Tensor]) -> Iterator[None]:
    """Replaces the variables in a block's layers by tensors, in the order of `block.weights`."""
    tensors = {id(v): tensor for v, tensor in zip(block.weights, weights, strict=True)}
    changed = []
    for layer in block.layers:
        for attribute in _WEIGHT_ATTRIBUTES:
            variable = layer.__dict__.get(attribute)
            if id(variable) in tensors:
                # Not by `setattr`: Keras would take the tensor for a change of the layer.
                layer.__dict__[attribute] = tensors.pop(id(variable))
                changed.append((layer, attribute, variable))
    assert not tensors, f"{block.name} has weights in attributes that are not listed here"
    try:
        yield
    finally:
        for layer, attribute, variable in changed:
            layer.__dict__[attribute] = variable
