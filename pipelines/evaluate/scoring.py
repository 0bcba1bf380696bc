"""Counting a served model's right answers on labelled images."""

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from signatures.graph_errors import reason

from ..data.labelled import DataShard, LabelledImage
from .scores import ShardScore

Array = npt.NDArray[np.float32]
BytesLogits = Callable[[Sequence[bytes]], Array]
"""Encoded images -> logits (B, K). An image that can't be decoded is an InvalidArgumentError."""


class EvaluationError(Exception):
    """A model can't be evaluated on the data. The message says why."""


def score_shard(
    logits_of: BytesLogits,
    shard: DataShard,
    batch_size: int,
    on_images: Callable[[int], None] = lambda images: None,
) -> ShardScore:
    """Counts the right answers on a shard.

    Args:
        logits_of: the model's signature `bytes_logits`.
        shard: the data.
        batch_size: images of a request.
        on_images: called after each request with the number of its images.

    Raises:
        EvaluationError: an answer is not finite, or the data's labels are not of the model's
            classes.
        UserError, OSError: the shard can't be read.
    """
    started = time.perf_counter()
    images = top1 = top5 = classes = 0
    confusion: collections.Counter[tuple[int, int]] = collections.Counter()
    undecodable: list[str] = []
    converted: list[str] = []
    left_out = list(shard.left_out)
    for batch in _batches(shard.read(), batch_size):
        left_out += [f"{image.name}: {image.left_out}" for image in batch if image.left_out]
        measured = [image for image in batch if not image.left_out]
        for image, answer in zip(measured, _of_images(logits_of, measured), strict=True):
            if isinstance(answer, str):
                undecodable.append(f"{image.name}: {answer}")
                continue
            if image.converted:
                converted.append(f"{image.name}: {image.converted}")
            classes = len(answer)
            rank = _rank(answer, image)
            confusion[image.label, int(np.argmax(answer))] += 1
            images += 1
            top1 += rank < 1
            top5 += rank < 5
        on_images(len(batch))
    seconds = time.perf_counter() - started
    return ShardScore(
        images=images,
        top1=top1,
        top5=top5,
        classes=classes,
        confusion=tuple((*pair, count) for pair, count in sorted(confusion.items())),
        undecodable=tuple(undecodable),
        converted=tuple(converted),
        left_out=tuple(left_out),
        seconds=seconds,
    )


def _batches(images: Iterable[LabelledImage], size: int) -> Iterable[list[LabelledImage]]:
    images = iter(images)
    return iter(lambda: list(itertools.islice(images, size)), [])


def _of_images(logits_of: BytesLogits, images: Sequence[LabelledImage]) -> list[Array | str]:
    """For each image its logits, or why there are none."""
    answers = iter(
        _answers(logits_of, [image.encoded for image in images if not image.undecodable])
    )
    return [image.undecodable or next(answers) for image in images]


def _answers(logits_of: BytesLogits, encoded: list[bytes]) -> list[Array | str]:
    """For each image its logits, or why it was refused.

    A server refuses a request with an image that it can't decode as a whole: such a request is
    halved until that image is alone.
    """
    import tensorflow as tf

    if not encoded:
        return []
    try:
        return list(logits_of(encoded))
    except tf.errors.InvalidArgumentError as error:
        if len(encoded) == 1:
            return [reason(error.message)]
    half = len(encoded) // 2
    return _answers(logits_of, encoded[:half]) + _answers(logits_of, encoded[half:])


def _rank(logits: Array, image: LabelledImage) -> int:
    """How many classes come before the right one. Of equal logits the lower number comes first,
    as in `tf.math.top_k`.
    """
    if not 0 <= image.label < len(logits):
        raise EvaluationError(
            f"{image.name} has label {image.label}; the model has the classes 0 to "
            f"{len(logits) - 1}"
        )
    if not np.isfinite(logits).all():
        raise EvaluationError(f"the logits of {image.name} are not finite")
    right = logits[image.label]
    return int(np.sum(logits > right) + np.sum(logits[: image.label] == right))
