"""Arrays to JSON: the replies of REST calls, in the layout of the real server.

Source: `MakeJsonFromTensors`, `MakeJsonFromClassificationResult`, `MakeJsonFromRegressionResult`
and `WriteDecimal` in util/json_tensor.cc of tensorflow/serving.
"""

import base64
import json
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, regression_pb2

from ...errors import invalid_argument
from ...tensors import Array

_BYTES_SUFFIX = "_bytes"
_INDENT = "    "
# Significant digits that distinguish any two values, by the size of the type in bytes.
_DIGITS = {2: 9, 4: 9, 8: 17}
_SHORT_DIGITS = 6


def rows_json(outputs: Mapping[str, Array]) -> str:
    """The reply to a call by rows: `predictions`, with a value or an object for each row.

    Args:
        outputs: alias -> value of shape (B, ...).

    Raises:
        ServingError: INVALID_ARGUMENT, the outputs have no rows, or different numbers of rows.
    """
    _check_any(outputs)
    count: int | None = None
    for alias, array in sorted(outputs.items()):
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if count is not None and len(array) != count:
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {count}"
            )
        count = len(array)
    columns = {alias: _items(alias, outputs[alias]) for alias in sorted(outputs)}
    if len(columns) == 1:
        (items,) = columns.values()
        rows = f"[{', '.join(items)}{_line(1)}]" if items else "[]"
    else:
        names = [json.dumps(alias, ensure_ascii=False) for alias in columns]
        objects = [
            _object(dict(zip(names, values, strict=True)), 2)
            for values in zip(*columns.values(), strict=True)
        ]
        rows = _list(objects, 1)
    return _object({'"predictions"': rows}, 0)


def columns_json(outputs: Mapping[str, Array]) -> str:
    """The reply to a call by columns: `outputs`, a value or an object of values.

    Args:
        outputs: alias -> value of any shape.

    Raises:
        ServingError: INVALID_ARGUMENT, an output has a dtype without a form in JSON.
    """
    _check_any(outputs)
    if len(outputs) == 1:
        ((alias, array),) = outputs.items()
        return _object({'"outputs"': _nested(alias, array, 1)}, 0)
    members = {
        json.dumps(alias, ensure_ascii=False): _nested(alias, outputs[alias], 2)
        for alias in sorted(outputs)
    }
    return _object({'"outputs"': _object(members, 1)}, 0)


def classifications_json(result: classification_pb2.ClassificationResult) -> str:
    """The reply to a classify call: for each example, pairs of a label and a score."""
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for classifications in result.classifications:
        scores = _decimals(np.array([item.score for item in classifications.classes], np.float32))
        labels = [json.dumps(item.label, ensure_ascii=False) for item in classifications.classes]
        pairs = [f"[{label}, {score}]" for label, score in zip(labels, scores, strict=True)]
        rows.append(f"[{', '.join(pairs)}]")
    return _object({'"results"': f"[{', '.join(rows)}{_line(1)}]"}, 0)


def regressions_json(result: regression_pb2.RegressionResult) -> str:
    """The reply to a regress call: a number for each example."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = np.array([item.value for item in result.regressions], np.float32)
    return _object({'"results"': f"[{', '.join(_decimals(values))}]"}, 0)


def error_json(message: str) -> str:
    """The reply to a call that failed."""
    return _object({'"error"': json.dumps(message, ensure_ascii=False)}, 0)


def _check_any(outputs: Mapping[str, Array]) -> None:
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")


def _items(alias: str, array: Array) -> list[str]:
    """A text for each element of dimension 0, on one line."""
    texts = _texts(alias, array)
    for dimension in range(array.ndim - 1, 0, -1):
        size = array.shape[dimension]
        texts = [
            f"[{', '.join(texts[start * size : (start + 1) * size])}]"
            for start in range(math.prod(array.shape[:dimension]))
        ]
    return texts


def _nested(alias: str, array: Array, level: int) -> str:
    """The text of an array, a line for each element."""
    texts = _texts(alias, array)
    for dimension in range(array.ndim - 1, -1, -1):
        size = array.shape[dimension]
        texts = [
            _list(texts[start * size : (start + 1) * size], level + dimension)
            for start in range(math.prod(array.shape[:dimension]))
        ]
    return texts[0]


def _texts(alias: str, array: Array) -> list[str]:
    """A text for each element of an array."""
    flat, kind = array.reshape(-1), array.dtype.kind
    if kind == "f":
        return _decimals(flat)
    if kind in "iu":
        return list(map(str, flat.tolist()))
    if kind == "b":
        return ["true" if value else "false" for value in flat.tolist()]
    if kind == "O" and alias.endswith(_BYTES_SUFFIX):
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat]
    if kind == "O":
        return [
            json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)
            for value in flat
        ]
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {tf.as_dtype(array.dtype).name}"
    )


def _decimals(flat: Array) -> list[str]:
    """Numbers as text: with six digits where these are exact, else with all that are needed.

    Whole numbers end in `.0`, so that readers do not take them for integers. Others may be `NaN`,
    `Infinity` or `-Infinity`.
    """
    with np.errstate(all="ignore"):
        wide = flat.astype(np.float64)
        scale = 10.0 ** (_SHORT_DIGITS - 1 - np.floor(np.log10(np.abs(wide))))
        # Candidates for six digits; parsing their text decides.
        short = (np.rint(wide * scale) / scale).astype(flat.dtype) == flat
        other = (wide == np.trunc(wide)) | ~np.isfinite(wide)
        indices = np.flatnonzero(short | other)
        candidates = list(map(f"%.{_SHORT_DIGITS}g".__mod__, wide[indices].tolist()))
        numbers = np.fromiter(map(float, candidates), np.float64, len(candidates))
        same = numbers.astype(flat.dtype) == flat[indices]
    texts = list(map(f"%.{_DIGITS[flat.dtype.itemsize]}g".__mod__, wide.tolist()))
    for index, candidate, is_same in zip(indices.tolist(), candidates, same.tolist(), strict=True):
        text = candidate if is_same else texts[index]
        if "." not in text and "e" not in text:
            text = _NOT_FINITE.get(text) or f"{text}.0"
        texts[index] = text
    return texts


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _line(level: int) -> str:
    return "\n" + _INDENT * level


def _list(texts: list[str], level: int) -> str:
    """A list that begins at this level, with a line for each text."""
    if not texts:
        return "[]"
    inner = _line(level + 1)
    return f"[{inner}{f',{inner}'.join(texts)}{_line(level)}]"


def _object(members: Mapping[str, str], level: int) -> str:
    """An object that begins at this level; its names are JSON already."""
    inner = _line(level + 1)
    lines = f",{inner}".join(f"{name}: {text}" for name, text in members.items())
    return f"{{{inner}{lines}{_line(level)}}}"
