"""The gate's comparison of the signatures that take encoded images.

They are compared with what the signatures that take tensors answered, so that only the
preprocessing is between both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
import tensorflow as tf

from signatures.contract import EXAMPLE_IMAGE_KEY

from .comparison import Differences
from .loaded_model import Outputs
from .prepared_image import PreparedImage

Array = npt.NDArray[Any]


def example(encoded: bytes) -> bytes:
    """An image as the serialised `tf.train.Example` that `classify` takes."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={EXAMPLE_IMAGE_KEY: feature})
    serialized: bytes = tf.train.Example(features=features).SerializeToString()
    return serialized


def compare_encoded(
    differences: Differences,
    image: PreparedImage,
    answers: Mapping[str, Outputs],
    served: Mapping[str, Array],
) -> None:
    """Compares the signatures that take the bytes of an image.

    Args:
        differences: takes what is found.
        image: the image.
        answers: outputs by signature.
        served: outputs of the signatures that take tensors, by name.
    """
    expected = dict(served)
    if "logits" in served:
        expected["probabilities"] = _probabilities(served)
    for signature, outputs in answers.items():
        differences.compare_all(signature, outputs, expected, image.name)


def compare_classes(
    differences: Differences,
    image: PreparedImage,
    answers: Mapping[str, Outputs],
    served: Mapping[str, Array],
    labels: Sequence[str],
) -> None:
    """Compares the signatures that take an Example and answer with the names of the best classes.

    Args:
        differences: takes what is found.
        image: the image.
        answers: outputs by signature.
        served: outputs of the signatures that take tensors, by name.
        labels: names of the classes.
    """
    for signature, outputs in answers.items():
        probabilities, (logits,) = _probabilities(served), served["logits"]
        best = np.argsort(-probabilities[0], kind="stable")[: outputs["scores"].shape[-1]]
        differences.compare(
            signature, "scores", outputs["scores"], probabilities[:, best], image.name
        )
        tie = differences.tolerances(signature).logit_tie
        differ = sum(
            label != labels[place] and _gap(logits, labels, label, place) > tie
            for label, place in zip(map(bytes.decode, outputs["classes"][0]), best, strict=True)
        )
        differences.record(signature, "classes", float(differ), image.name)


def _probabilities(served: Mapping[str, Array]) -> Array:
    probabilities: Array = scipy.special.softmax(served["logits"], axis=-1)
    return probabilities


def _gap(logits: Array, labels: Sequence[str], label: str, place: int) -> float:
    """How far the class of a label is from the expected one; infinity for no class."""
    # Two of ImageNet's classes have the same name.
    named = [i for i, name in enumerate(labels) if name == label]
    return min((abs(float(logits[i] - logits[place])) for i in named), default=np.inf)
