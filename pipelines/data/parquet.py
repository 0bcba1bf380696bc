"""Parquet files as the model hub keeps images: `image`, with bytes and a path, and `label`."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from export.errors import UserError

from .found import FoundImage
from .labels import class_of, class_of_text, wordnet_ids

_IMAGES = ("image", "img")
_LABELS = ("label", "labels")
_ROWS = 16
"""Rows that are in memory at a time."""


def read_parquet(path: pathlib.Path, where: str, first: int | None) -> Iterator[FoundImage]:
    """Reads a Parquet file; see `FileReader`.

    The labels are numbers from 0. Where the data set's own description, in the file, says that
    their names are WordNet ids, these give the classes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not the whole group of rows ahead, which may be thousands of images.
        file = pq.ParquetFile(path, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{where}: not a whole Parquet file ({_line(error)})") from None
    with file:
        schema = file.schema_arrow
        image, label = _columns(schema, where)
        names = _names(schema.metadata or {}, label)
        ids = names if set(names) <= set(wordnet_ids()) else []
        classes = () if ids else tuple(names)
        number = 0
        try:
            columns = [image, *([label] if label else [])]
            for batch in file.iter_batches(_ROWS, columns=columns):
                labels = batch[label].to_pylist() if label else [None] * len(batch)
                for value, stored in zip(batch[image].to_pylist(), labels, strict=True):
                    place = f"row {number}"
                    number += 1
                    of_label = f"{where}: {place} has {label}"
                    encoded, name = _encoded(value, f"{where}: {place}", image)
                    found = None if stored is None else _label(stored, first, of_label, ids)
                    yield FoundImage(name, encoded, found, place, label or _LABELS[0], classes)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{where}: row {number} cannot be read ({_line(error)})") from None


def _columns(schema: Any, where: str) -> tuple[str, str | None]:
    """The names of the column of images and of that of labels, which may be missing."""
    import pyarrow as pa

    def holds_images(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and holds_images(kind.field(index).type)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    for image in _IMAGES:
        if image in schema.names and holds_images(schema.field(image).type):
            label = next((label for label in _LABELS if label in schema.names), None)
            return image, label
    found = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UserError(
        f"{where}: a Parquet file without a column of images (found: {found or 'no columns'}); "
        "expected image, with the bytes of an image file, and label"
    )


def _names(metadata: dict[bytes, bytes], label: str | None) -> list[str]:
    """The names of the classes, from the hub's description of the data set, if there is one."""
    try:
        description = json.loads(metadata.get(b"huggingface", b"{}"))
        names = description["info"]["features"][label]["names"]
        return [str(name) for name in names]
    except (ValueError, KeyError, TypeError):
        return []


def _encoded(value: Any, where: str, column: str) -> tuple[bytes, str]:
    content, name = value, ""
    if isinstance(value, dict):
        content, name = value["bytes"], value.get("path") or ""
    if content is None:
        what = f"a path alone ({name})" if name else "nothing"
        raise UserError(f"{where} has {what} in {column}; expected the bytes of an image file")
    return content, name


def _label(stored: Any, first: int | None, where: str, ids: list[str]) -> int:
    if isinstance(stored, str):
        return class_of_text(stored, first, where)
    if not isinstance(stored, int):
        raise UserError(f"{where} of type {type(stored).__name__}; expected the number of a class")
    if first is None and 0 <= stored < len(ids):
        return wordnet_ids()[ids[stored]]
    return class_of(stored, first, where)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
