"""The functions behind the signatures of the contract.

TF Serving checks no shapes, so each function checks its inputs inside the graph: a wrong input is
an INVALID_ARGUMENT that says what is expected.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from .contract import EXAMPLE_IMAGE_KEY, TOP_K, Head, SignatureContract, signatures_for
from .geometry import Geometry
from .preprocessing import decode_batch, normalize

# Outputs by name. They are made on demand, so that a graph has only the outputs of its signature.
Outputs = dict[str, Callable[[], tf.Tensor]]
Body = Callable[..., Outputs]


class ForwardOutputs(NamedTuple):
    """The outputs of a model for images (B, S, S, 3), in the order of its blocks.

    Attributes:
        features: (B, D) float32.
        class_attention: (B, H, 1, N+1) float32 for each class-attention block.
    """

    features: tf.Tensor
    class_attention: Sequence[tf.Tensor]


class BlockAttention(NamedTuple):
    """The self-attention of a block, for the images that reach it, as two summands.

    The bias is separate, so that it is added only for images whose `block` is this one.

    Attributes:
        without_bias: (B, H, N, N) float32, in parts along the queries.
        bias: (H, 1, 1) float32.
    """

    without_bias: Sequence[tf.Tensor]
    bias: tf.Tensor


Forward = Callable[[tf.Tensor], ForwardOutputs]
# Images, and for each block the number of images, from the first, that go on to the next block ->
# for each block the attention of the images that reach it.
SelfAttention = Callable[[tf.Tensor, tf.Tensor], Sequence[BlockAttention]]


class SignatureFunctions:
    """The functions behind the signatures of a classifier and of its feature extractor.

    Functions that are the same for several signatures, or for both models, are traced once.

    Args:
        forward: the model in inference. If it calls a `tf.function`, signatures share its graph.
        logits: the classifier's head, features (B, D) -> logits (B, K).
        self_attention: the model's self-attention in inference; see `SelfAttention`. Not a
            `tf.function`, since a call of one holds all outputs until it returns, and the attention
            of all blocks is up to 1.8 GiB for one image.
        geometry: the model's sizes.
        labels: names of the classes for `classify`; by default their numbers.
        main: another form of `forward`, for the signatures whose answer is the main output alone;
            by default they run `forward`, too.

    Raises:
        ValueError: the number of labels is not the number of classes.
    """

    def __init__(
        self,
        forward: Forward,
        logits: Callable[[tf.Tensor], tf.Tensor],
        self_attention: SelfAttention,
        geometry: Geometry,
        labels: Sequence[str] | None = None,
        main: Forward | None = None,
    ) -> None:
        if labels is not None and len(labels) != geometry.num_classes:
            raise ValueError(f"{len(labels)} labels for {geometry.num_classes} classes")
        self._geometry = geometry
        self._bodies = _bodies(forward, logits, self_attention, geometry, labels)
        self._main_bodies = (
            _bodies(main, logits, self_attention, geometry, labels) if main else self._bodies
        )
        self._traced: dict[object, tf.types.experimental.ConcreteFunction] = {}

    def of(self, head: Head) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Concrete functions by signature name, for `signatures=` of a SavedModel writer."""
        signatures = signatures_for(head, self._geometry)
        # The default is traced last, so that its function has the name of the equal signature.
        output = "logits" if head == "classifier" else "features"
        main = ("serving_default", output, f"bytes_{output}")
        by_name = {
            name: self._trace(signatures[name], self._main_bodies if name in main else self._bodies)
            for name in sorted(signatures, key=lambda name: name == "serving_default")
        }
        return {name: by_name[name] for name in signatures}

    def _trace(
        self, signature: SignatureContract, bodies: Mapping[str, Body]
    ) -> tf.types.experimental.ConcreteFunction:
        same = (signature.inputs, signature.outputs, id(bodies))
        if same not in self._traced:
            self._traced[same] = _trace(bodies[signature.name], signature, self._geometry)
        return self._traced[same]


def _trace(
    body: Body, signature: SignatureContract, geometry: Geometry
) -> tf.types.experimental.ConcreteFunction:
    specs = [
        tf.TensorSpec(tensor.resolve(geometry), tensor.dtype, name=tensor.name)
        for tensor in signature.inputs
    ]

    def run(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        available = body(*inputs)
        return {tensor.name: available[tensor.name]() for tensor in signature.outputs}

    # The name of the function is shown in profiles and errors of a server.
    run.__name__ = signature.name
    return tf.function(run, autograph=False).get_concrete_function(*specs)


def _bodies(
    forward: Forward,
    logits: Callable[[tf.Tensor], tf.Tensor],
    self_attention: SelfAttention,
    geometry: Geometry,
    labels: Sequence[str] | None,
) -> dict[str, Body]:
    from_images = _images_body(forward, logits, geometry.image_size)
    from_bytes = _bytes_body(from_images, geometry.image_size)
    return {
        "serving_default": from_images,
        "logits": from_images,
        "features": from_images,
        "class_attention": from_images,
        "self_attention": _self_attention_body(self_attention, geometry),
        "bytes_logits": from_bytes,
        "bytes_features": from_bytes,
        "bytes_class_attention": from_bytes,
        "classify": _classify_body(from_bytes, geometry.num_classes, labels),
    }


def _images_body(forward: Forward, logits: Callable[[tf.Tensor], tf.Tensor], size: int) -> Body:
    def from_images(images: tf.Tensor) -> Outputs:
        features, class_attention = forward(tf.ensure_shape(images, (None, size, size, 3)))
        of_head = functools.cache(lambda: logits(features))
        outputs: Outputs = {
            "features": lambda: features,
            "logits": of_head,
            "probabilities": lambda: tf.nn.softmax(of_head()),
        }
        for block, attention in enumerate(class_attention):
            outputs[f"ca_ffn_block_{block}_att"] = functools.partial(tf.identity, attention)
        return outputs

    return from_images


def _bytes_body(from_images: Body, size: int) -> Body:
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def preprocess(image_bytes: tf.Tensor) -> tf.Tensor:
        return normalize(decode_batch(image_bytes, size))

    def from_bytes(image_bytes: tf.Tensor) -> Outputs:
        return from_images(preprocess(tf.ensure_shape(image_bytes, (None,))))

    return from_bytes


def _self_attention_body(self_attention: SelfAttention, geometry: Geometry) -> Body:
    size = geometry.image_size

    def of_blocks(images: tf.Tensor, block: tf.Tensor) -> Outputs:
        images = tf.ensure_shape(images, (None, size, size, 3))
        block = tf.ensure_shape(block, (None,))
        checks = _check_blocks(images, block, geometry.sa_blocks)
        with tf.control_dependencies(checks):
            images = tf.identity(images)
            block = tf.identity(block)
        select = functools.partial(
            _select_blocks, self_attention, images, block, geometry.sa_blocks
        )
        return {"attention": select}

    return of_blocks


def _classify_body(from_bytes: Body, classes: int, labels: Sequence[str] | None) -> Body:
    def classify(inputs: tf.Tensor) -> Outputs:
        inputs = tf.ensure_shape(inputs, (None,))
        features = {EXAMPLE_IMAGE_KEY: tf.io.FixedLenFeature((), tf.string)}
        encoded = tf.io.parse_example(inputs, features)[EXAMPLE_IMAGE_KEY]
        probabilities = from_bytes(encoded)["probabilities"]()
        scores, indices = tf.math.top_k(probabilities, min(TOP_K, classes))
        names = tf.constant(labels or [str(i) for i in range(classes)])
        return {"classes": lambda: tf.gather(names, indices), "scores": lambda: scores}

    return classify


def _check_blocks(images: tf.Tensor, block: tf.Tensor, sa_blocks: int) -> list[tf.Operation]:
    message = f"block must be 0 to {sa_blocks - 1}"
    return [
        tf.debugging.assert_equal(
            tf.shape(images)[0],
            tf.shape(block)[0],
            message="images and block must have the same batch size",
        ),
        tf.debugging.assert_non_negative(block, message=message),
        tf.debugging.assert_less(block, sa_blocks, message=message),
    ]


def _select_blocks(
    self_attention: SelfAttention, images: tf.Tensor, block: tf.Tensor, sa_blocks: int
) -> tf.Tensor:
    """The attention of block[i] for image i.

    An image leaves the model after its block. Images are sorted by block, the last one first, so
    that the images that go on after a block are always the first ones.
    """
    # The number of images in a block depends on the values of `block`: XLA would compile once for
    # each number.
    with tf.xla.experimental.jit_scope(compile_ops=False):
        order = tf.argsort(block, direction="DESCENDING", stable=True)
        later = tf.cast(block > tf.range(sa_blocks)[:, tf.newaxis], tf.int32)
        going_on = tf.reduce_sum(later, 1)
        attention = self_attention(tf.gather(images, order), going_on)
        # Computed for all blocks at once, which needs fewer nodes.
        begins = tf.unstack(tf.pad(going_on[:, tf.newaxis], ((0, 0), (0, 3))), num=sa_blocks)
        to_the_end = functools.cache(lambda sizes: tf.constant((-1, *sizes)))
        of_leaving = [
            _attention_from(of_block, begin, to_the_end)
            for of_block, begin in zip(attention, begins, strict=True)
        ]
        # From the last block to the first, the images are in the order of `order`.
        return tf.gather(tf.concat(of_leaving[::-1], 0), tf.math.invert_permutation(order))


def _attention_from(
    attention: BlockAttention,
    begin: tf.Tensor,
    size_to_the_end: Callable[[tuple[int, ...]], tf.Tensor],
) -> tf.Tensor:
    """The attention of a block (B', H, N, N) for the images from `begin`, (4,) int32, on."""
    parts = [
        tf.slice(part, begin, size_to_the_end(tuple(part.shape[1:])))
        for part in attention.without_bias
    ]
    return tf.concat(parts, axis=2) + attention.bias
