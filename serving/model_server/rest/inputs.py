"""JSON to arrays: the inputs of a REST predict call, by rows (`instances`) or columns (`inputs`).

Rectangular lists of the right type, the normal case, become arrays as a whole. All other lists are
walked value by value, to find the error that the real server reports.

Source: `FillPredictRequestFromJson` and what it calls in util/json_tensor.cc of
tensorflow/serving.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ...errors import ServingError, invalid_argument
from ...tensors import MOST_DIMENSIONS, Array
from .document import Document, format_error, shown, to_bytes
from .values import (
    FLOATS,
    INTEGERS,
    as_floats,
    base64_bytes,
    check_value,
    is_base64,
)

ROWS, COLUMNS = "instances", "inputs"

# Number of rows in a step of the search for a bad row.
_BLOCK = 1024

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]
Shape = tuple[int, ...]


def input_arrays(document: Document, inputs: Inputs) -> tuple[dict[str, Array], bool]:
    """The inputs of a call.

    Args:
        document: the request.
        inputs: alias -> tensor of the signature; at least one.

    Returns:
        Name of a tensor of the graph -> its value, and whether the call is by rows.

    Raises:
        ServingError: the document is wrong.
    """
    if ROWS in document and COLUMNS in document:
        raise format_error(
            document,
            f"Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' keys to exist ",
        )
    if ROWS in document:
        rows = document[ROWS]
        if not isinstance(rows, list):
            raise format_error(document, f"Expecting '{ROWS}' to be an list/array")
        if not rows:
            raise format_error(document, f"No values in '{ROWS}' array")
        arrays = _from_rows(rows, inputs)
    elif COLUMNS in document:
        arrays = _from_columns(document[COLUMNS], inputs)
    else:
        raise invalid_argument(f"Missing '{COLUMNS}' or '{ROWS}' key")
    return {inputs[alias].name: array for alias, array in arrays.items()}, ROWS in document


def _from_rows(rows: list[Any], inputs: Inputs) -> dict[str, Array]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    columns: dict[str, list[Any]] | None = None
    if not _is_named(rows[0]):
        columns = {min(inputs): rows}
    elif all(isinstance(row, dict) and row.keys() == inputs.keys() for row in rows):
        columns = {alias: [row[alias] for row in rows] for alias in inputs}
    if columns is not None:
        arrays = {alias: _array(column, inputs[alias].dtype) for alias, column in columns.items()}
        whole = {alias: array for alias, array in arrays.items() if array is not None}
        if len(whole) == len(columns):
            return whole
    _explain_rows(rows, inputs)
    raise invalid_argument(f"The values of '{ROWS}' are not rectangular")


def _from_columns(value: Any, inputs: Inputs) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        value = {min(inputs): value}
    arrays = {}
    for alias in sorted(inputs):
        if alias not in value:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")
        array = _array(value[alias], inputs[alias].dtype)
        if array is None:
            _explain(value[alias], 0, inputs[alias].dtype, _shape(value[alias]))
            raise invalid_argument(f"The values of '{alias}' are not rectangular")
        arrays[alias] = array
    return arrays


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _array(value: Any, dtype: int) -> Array | None:
    """A value as an array, or None if it is not rectangular or not of the dtype."""
    shape: list[int] = []
    leaves = [value]
    while leaves:
        types = set(map(type, leaves))
        if list not in types:
            flat = _flat_array(leaves, types, dtype)
            return None if flat is None else flat.reshape(shape)
        sizes = {len(leaf) for leaf in leaves} if len(types) == 1 else set()
        if len(sizes) != 1:
            return None
        shape.append(sizes.pop())
        if len(shape) > MOST_DIMENSIONS:
            raise invalid_argument(f"A list is nested deeper than {MOST_DIMENSIONS} levels")
        leaves = list(itertools.chain.from_iterable(leaves))
    return np.empty(shape, tf.as_dtype(dtype).as_numpy_dtype)


def _flat_array(leaves: list[Any], types: set[type], dtype: int) -> Array | None:
    if dtype in FLOATS and types <= {int, float}:
        return as_floats(leaves, dtype)
    if dtype in INTEGERS and types == {int}:
        least, most = INTEGERS[dtype]
        if min(leaves) < least or max(leaves) > most:
            return None
        wide = np.array(leaves, np.int64 if least else np.uint64)
        return wide.astype(tf.as_dtype(dtype).as_numpy_dtype)
    if dtype == types_pb2.DT_BOOL and types == {bool}:
        return np.array(leaves, bool)
    if dtype == types_pb2.DT_STRING and types <= {str, dict}:
        strings = np.empty(len(leaves), object)
        try:
            strings[:] = [
                to_bytes(leaf) if isinstance(leaf, str) else base64_bytes(leaf) for leaf in leaves
            ]
        except ServingError:
            return None
        return strings
    return None


def _explain_rows(rows: list[Any], inputs: Inputs) -> None:
    """Reports the first error in rows, in the order of the real server's checks.

    Raises:
        ServingError: the error.
    """
    named = _is_named(rows[0])
    first: dict[str, Shape] = {}
    skipped = 0 if named else _good_rows(rows, inputs[min(inputs)].dtype)
    for number, row in enumerate(rows[skipped:], skipped):
        if named and not _is_named(row):
            raise invalid_argument(f"Expecting object but got list at item {number} of input list")
        if not named and _is_named(row):
            raise invalid_argument(
                f"Expecting value/list but got object at item {number} of input list"
            )
        for alias, value in row.items() if named else [(min(inputs), row)]:
            try:
                _explain_item(alias, value, inputs, first)
            except ServingError as error:
                key = f" key: {alias}" if named else ""
                raise invalid_argument(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: {error}"
                ) from None
        if named and row.keys() != inputs.keys():
            raise invalid_argument(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{shown(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )


def _good_rows(rows: list[Any], dtype: int) -> int:
    """The number of first rows without an error, rounded down to a block."""
    shape = _shape(rows[0])
    for start in range(0, len(rows), _BLOCK):
        array = _array(rows[start : start + _BLOCK], dtype)
        if array is None or array.shape[1:] != shape:
            return max(0, start - 1)
    return 0


def _explain_item(alias: str, value: Any, inputs: Inputs, first: dict[str, Shape]) -> None:
    if alias not in inputs:
        raise invalid_argument(f"JSON object: does not have named input: {alias}")
    shape = _shape(value)
    _explain(value, 0, inputs[alias].dtype, shape)
    expected = first.setdefault(alias, shape)
    if math.prod(shape) != math.prod(expected):
        raise invalid_argument(
            f"Expecting tensor size: {math.prod(expected)} but got: {math.prod(shape)}"
        )
    if shape != expected:
        raise invalid_argument(
            f"Expecting shape {_shape_text(expected)} but got: {_shape_text(shape)}"
        )


def _explain(value: Any, level: int, dtype: int, shape: Sequence[int]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise format_error(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}",
            )
        check_value(value, dtype)
        return
    if level >= len(shape):
        raise invalid_argument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    last = level == len(shape) - 1
    if last and _flat_array(value, set(map(type, value)), dtype) is not None:
        return
    for item in value:
        _explain(item, level + 1, dtype, shape)


def _shape(value: Any) -> Shape:
    """The shape of a value, by the first element of each list."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _shape_text(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
