"""The functions of the signatures by themselves, around a forward pass whose outputs are known."""

import io

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from signatures import Geometry, Head, signatures_for
from signatures.functions import BlockAttention, ForwardOutputs, SignatureFunctions
from tests.support.examples import examples

Array = npt.NDArray[np.float32]

SMALL = Geometry(
    image_size=8, patches=4, heads=2, embed_dim=3, num_classes=3, sa_blocks=12, ca_blocks=1
)


def known(images: tf.Tensor) -> ForwardOutputs:
    """Features are twice the first three numbers of an image."""
    return ForwardOutputs(images[:, 0, 0] * 2, [tf.ones((tf.shape(images)[0], 2, 1, 5))])


def known_logits(features: tf.Tensor) -> tf.Tensor:
    """The first three numbers of the image."""
    return features / 2


def functions(labels: list[str] | None = None) -> SignatureFunctions:
    return SignatureFunctions(known, known_logits, known_attention, SMALL, labels)


def known_attention(images: tf.Tensor, going_on: tf.Tensor) -> list[BlockAttention]:
    """The attention of a block is its number, and an image's first; the second head's is more."""
    bias = tf.constant([[[0.25]], [[0.5]]])
    blocks = []
    for block, count in enumerate(tf.unstack(going_on)):
        attention = tf.ones((1, 2, 4, 4)) * block + images[:, :1, :1, :1]
        blocks.append(BlockAttention(tf.split(attention, (1, 3), axis=2), bias))
        images = images[:count]
    return blocks


def sure_of(*classes: int) -> list[bytes]:
    """Files of one colour, of which the channel of that number is the brightest."""
    files = []
    for number in classes:
        colour = tuple(250 if channel == number else 5 * channel for channel in range(3))
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def test_classes_are_named_by_the_labels_given() -> None:
    signatures = functions(["red", "grün", "blue, azure"]).of("classifier")
    reply = signatures["classify"](tf.constant(examples(sure_of(2, 0, 1))))
    assert reply["classes"].dtype == tf.string
    # Of three classes, three are the best.
    assert [[name.decode() for name in row] for row in reply["classes"].numpy()] == [
        ["blue, azure", "grün", "red"],
        ["red", "blue, azure", "grün"],
        ["grün", "blue, azure", "red"],
    ]
    np.testing.assert_allclose(reply["scores"].numpy().sum(axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("labels", [[], ["red", "green"], ["red"] * 4], ids=len)
def test_another_number_of_labels_than_classes_is_refused(labels: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{len(labels)} labels for 3 classes"):
        functions(labels)


def test_each_of_many_blocks_is_found() -> None:
    select = functions().of("classifier")["self_attention"]
    blocks = [11, 3, 10, 0, 3, 2, 1]
    images = np.zeros((7, 8, 8, 3), np.float32)
    # Each image's own number, in hundredths, is in its attention.
    images[:, 0, 0, 0] = np.arange(7) / 100
    attention = select(images=tf.constant(images), block=tf.constant(blocks))["attention"]
    wanted = np.array(blocks) + np.arange(7) / 100
    assert attention.shape == (7, 2, 4, 4)
    wanted = wanted[:, None, None, None] + np.array([0.25, 0.5])[:, None, None]
    np.testing.assert_allclose(attention, np.broadcast_to(wanted, (7, 2, 4, 4)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["classifier", "features"])
def test_each_head_has_its_signatures(head: Head) -> None:
    of_head = functions().of(head)
    assert list(of_head) == list(signatures_for(head, SMALL))
    for name, signature in signatures_for(head, SMALL).items():
        outputs = of_head[name].structured_outputs
        assert {
            key: (tensor.dtype.name, tuple(tensor.shape)) for key, tensor in outputs.items()
        } == {tensor.name: (tensor.dtype, tensor.resolve(SMALL)) for tensor in signature.outputs}


def test_what_is_the_same_is_traced_once() -> None:
    both = functions()
    classifier, extractor = both.of("classifier"), both.of("features")
    assert classifier["serving_default"] is classifier["logits"]
    shared = {name for name in extractor if extractor[name] is classifier[name]}
    assert shared == {"features", "self_attention", "bytes_features"}
