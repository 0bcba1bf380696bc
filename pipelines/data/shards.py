"""The sample: TFRecord files of `tf.train.Example` with an encoded image each."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from export.errors import UserError
from export.reference.preprocessing import UndecodableImageError, load_pixels

from ..elements import Shard
from ..runtime.files import InputFile, find_files, local_copy
from ..runtime.quiet import load_tensorflow

IMAGE_KEY = "image/encoded"
LABEL_KEY = "image/class/label"
NAME_KEY = "image/filename"

_CLASSES = 1000

ATTENTION_IMAGES = 2
"""Images of the sample whose attention is compared. Every block is, so two are enough."""


@dataclasses.dataclass(frozen=True)
class SampleImage:
    """A record of a shard.

    Attributes:
        number: of the record in its file, from 0.
        name: what to call it in messages.
        encoded: the image as a file's bytes.
        label: its class, if the record has one.
    """

    number: int
    name: str
    encoded: bytes
    label: int | None


def read_shard(path: str, first_label: int = 0, stamp: str = "") -> Iterator[SampleImage]:
    """Reads a shard, record by record.

    Args:
        path: the TFRecord file, or its URL.
        first_label: what the records call class 0. Some data sets number ImageNet's classes from
            1, and leave 0 to the background.
        stamp: see `runtime.files.InputFile`.

    Raises:
        UserError: the file cannot be read or is not a TFRecord file, or a record is not an Example,
            lacks `image/encoded` or has a label of none of the 1000 classes.
    """
    load_tensorflow()
    import tensorflow as tf

    try:
        local = local_copy(path, stamp)
    except OSError as error:
        raise UserError(f"sample shard {error}") from None
    records = tf.data.TFRecordDataset(str(local)).as_numpy_iterator()
    number = -1
    while True:
        number += 1
        where = f"sample shard {path}: record {number}"
        try:
            record = next(records, None)
        except tf.errors.OpError as error:
            raise UserError(
                f"{where} cannot be read ({_plain(error.message)}); expected a TFRecord file of "
                "tf.train.Example"
            ) from None
        if record is None:
            return
        try:
            features = tf.train.Example.FromString(record).features.feature
        except Exception as error:  # DecodeError, whose module depends on protobuf's backend.
            raise UserError(f"{where} is not a tf.train.Example ({error})") from None
        encoded = list(features[IMAGE_KEY].bytes_list.value) if IMAGE_KEY in features else []
        if len(encoded) != 1:
            found = ", ".join(sorted(features)) or "no features"
            raise UserError(
                f"{where} has no {IMAGE_KEY} of one value (found: {found}); expected a JPEG or "
                "PNG there"
            )
        yield SampleImage(
            number, _name(features, path, number), encoded[0], _label(features, where, first_label)
        )


def _name(features: dict, path: str, number: int) -> str:  # type: ignore[type-arg]
    if NAME_KEY in features and features[NAME_KEY].bytes_list.value:
        name: str = features[NAME_KEY].bytes_list.value[0].decode("utf-8", "replace")
        return name
    return f"{path.rsplit('/', 1)[-1]}#{number}"


def _label(features: dict, where: str, first: int) -> int | None:  # type: ignore[type-arg]
    if LABEL_KEY not in features or not features[LABEL_KEY].int64_list.value:
        return None
    label = int(features[LABEL_KEY].int64_list.value[0])
    if not first <= label < first + _CLASSES:
        raise UserError(
            f"{where} has {LABEL_KEY} {label}; expected {first} to {first + _CLASSES - 1}"
        )
    return label - first


def _plain(message: str) -> str:
    """TensorFlow's message without the names of its operations."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*", "", message).strip()


def plan_shards(patterns: Sequence[str]) -> tuple[Shard, ...]:
    """Finds and reads the whole sample, and chooses the images whose attention is compared.

    Args:
        patterns: globs.

    Raises:
        UserError: a glob matches nothing, a record is not as `read_shard` expects it, or fewer than
            two images can be decoded.
    """
    files: list[InputFile] = []
    for pattern in patterns:
        try:
            matches = find_files(pattern)
        except OSError as error:
            raise UserError(f"--sample_shard {pattern}: cannot be listed ({error})") from None
        if not matches:
            raise UserError(
                f"--sample_shard {pattern}: no file matches; expected TFRecord files of "
                "tf.train.Example"
            )
        files += [match for match in matches if match not in files]
    shards = []
    missing = ATTENTION_IMAGES
    for file in files:
        count, labelled, chosen = 0, 0, []
        for image in read_shard(file.address, stamp=file.stamp):
            count += 1
            labelled += image.label is not None
            if missing and can_decode(image.encoded):
                chosen.append(image.number)
                missing -= 1
        shards.append(Shard(file.address, count, tuple(chosen), labelled, stamp=file.stamp))
    if missing:
        raise UserError(
            f"--sample_shard {' '.join(patterns)}: {ATTENTION_IMAGES - missing} images can be "
            f"decoded; expected at least {ATTENTION_IMAGES}"
        )
    return tuple(shards)


def can_decode(encoded: bytes) -> bool:
    """Whether an image can be decoded, which does not depend on the size that it is resized to."""
    try:
        load_pixels(encoded, 16)
    except UndecodableImageError:
        return False
    return True
