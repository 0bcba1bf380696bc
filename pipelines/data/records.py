"""TFRecord files of `tf.train.Example`, as TensorFlow's models and as TensorFlow Datasets write."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from export.errors import UserError

from ..runtime.quiet import load_tensorflow
from .found import FoundImage
from .gzipped import is_gzipped, uncompressed
from .labels import class_of

IMAGE_KEY = "image/encoded"
LABEL_KEY = "image/class/label"
NAME_KEY = "image/filename"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names of an Example's features.

    Attributes:
        image: the encoded image.
        label: the number of its class.
        name: the image's file.
        wordnet_id: the class's WordNet id, where the layout has it.
    """

    image: str
    label: str
    name: str
    wordnet_id: str = ""


LAYOUTS = (
    # TensorFlow's models, and `pipelines.sample_shard`.
    Layout(IMAGE_KEY, LABEL_KEY, NAME_KEY, "image/class/synset"),
    # TensorFlow Datasets.
    Layout("image", "label", "file_name"),
)


def read_records(path: pathlib.Path, where: str, first: int | None) -> Iterator[FoundImage]:
    """Reads a TFRecord file; see `FileReader`. It may be compressed with gzip."""
    load_tensorflow()
    import tensorflow as tf

    compressed = is_gzipped(path)
    dataset = tf.data.TFRecordDataset(str(path), compression_type="GZIP" if compressed else "")
    records = dataset.as_numpy_iterator()
    number = -1
    while True:
        number += 1
        try:
            record = next(records, None)
        except tf.errors.OpError as error:
            kind = "TFRecord file, compressed with gzip," if compressed else "TFRecord file"
            raise UserError(
                f"{where}: record {number} cannot be read ({_plain(error.message)}); expected a "
                f"{kind} of tf.train.Example"
            ) from None
        if record is None:
            break
        yield _image(record, f"record {number}", where, first)
    if compressed:
        _check_end(path, where)


def _image(record: bytes, place: str, where: str, first: int | None) -> FoundImage:
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # DecodeError, whose module depends on protobuf's backend.
        raise UserError(f"{where}: {place} is not a tf.train.Example ({error})") from None
    layout = next((layout for layout in LAYOUTS if layout.image in features), LAYOUTS[0])
    encoded = _bytes(features, layout.image)
    if len(encoded) != 1:
        found = ", ".join(f"{name} ({_kind(features[name])})" for name in sorted(features))
        raise UserError(
            f"{where}: {place} has no {' or '.join(layout.image for layout in LAYOUTS)} of one "
            f"value (found: {found or 'no features'}); expected an encoded image there"
        )
    label = None
    if layout.label in features and features[layout.label].int64_list.value:
        of_label = f"{where}: {place} has {layout.label}"
        wordnet_id = "".join(map(_text, _bytes(features, layout.wordnet_id)[:1]))
        label = class_of(
            int(features[layout.label].int64_list.value[0]), first, of_label, wordnet_id
        )
    name = "".join(map(_text, _bytes(features, layout.name)[:1]))
    return FoundImage(name, encoded[0], label, place, layout.label)


def _bytes(features: Any, name: str) -> list[bytes]:
    return list(features[name].bytes_list.value) if name in features else []


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _kind(feature: Any) -> str:
    return str(feature.WhichOneof("kind") or "empty").removesuffix("_list")


def _plain(message: str) -> str:
    """TensorFlow's message without the names of its operations."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*", "", message).strip()


def _check_end(path: pathlib.Path, where: str) -> None:
    """Checks what TensorFlow does not: that the compressed stream has its end.

    Raises:
        UserError: it is cut off, perhaps behind a record, so that nobody would miss the others.
    """
    with uncompressed(path, where) as stream:
        while stream.read(1 << 20):
            pass
