"""Joins the arrays of several requests along dimension 0, and splits the answers.

Codes and messages: `batching_session.cc` and `batching_util.{h,cc}` of tensorflow/serving.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.framework import types_pb2

from ...errors import Code, ServingError, failed_precondition, invalid_argument
from ...tensors import Array, dtype_number

# Limit of `PadOp`.
_MOST_DIMENSIONS_TO_PAD = 6


def count_rows(feeds: Mapping[str, Array]) -> int:
    """The number of rows of a request, which has to be the same for all inputs.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    rows = None
    for array in feeds.values():
        if not array.ndim:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        if rows is not None and len(array) != rows:
            raise invalid_argument(
                "Batching Run() input tensors must have equal 0th-dimension size"
            )
        rows = len(array)
    assert rows is not None
    return rows


def join(
    requests: Sequence[Mapping[str, Array]], padding: int, pad_variable_length: bool
) -> dict[str, Array]:
    """The inputs of a batch.

    Args:
        requests: name of a tensor -> its value; all requests have the same names.
        padding: number of rows to add at the end; they repeat the first row of the last request.
        pad_variable_length: pads arrays of different shapes to the largest size of each dimension;
            the padding repeats the array's first element.

    Raises:
        ServingError: FAILED_PRECONDITION, shapes of an input differ; INTERNAL, dtypes differ;
            INVALID_ARGUMENT, an array cannot be padded.
    """
    joined = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if pad_variable_length:
            arrays = _padded(name, arrays)
        _check_alike(name, arrays)
        if padding:
            first = arrays[-1][:1]
            arrays.append(np.broadcast_to(first, (padding, *first.shape[1:])))
        joined[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return joined


def split(values: Sequence[Array], sizes: Sequence[int], padding: int) -> list[list[Array]]:
    """Splits the outputs of a batch: for each request its rows of every output.

    Args:
        values: the outputs.
        sizes: number of rows of each request.
        padding: number of rows that `join` added.

    Raises:
        ServingError: FAILED_PRECONDITION, an output has another number of rows than the batch.
    """
    for value in values:
        if not value.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(value) != sum(sizes) + padding:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors"
            )
    parts, start = [], 0
    for size in sizes:
        parts.append([value[start : start + size] for value in values])
        start += size
    return parts


def rejoin(parts: Sequence[Sequence[Array]]) -> list[Array]:
    """The outputs of a request that was split, from those of its parts in order.

    Raises:
        ServingError: INTERNAL, outputs of different parts have different shapes.
    """
    if len(parts) == 1:
        return list(parts[0])
    try:
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    except ValueError as error:
        raise ServingError(Code.INTERNAL, f"Tensor concat operation failed: {error}") from error


def _check_alike(name: str, arrays: Sequence[Array]) -> None:
    first = arrays[0]
    for array in arrays[1:]:
        if array.shape[1:] != first.shape[1:]:
            raise failed_precondition(
                f"Tensors with name '{name}' from different tasks have different shapes and "
                "padding is turned off. Set pad_variable_length_inputs to true, or ensure that all "
                "tensors with the same name have equal dimensions starting with the first dim."
            )
    for array in arrays[1:]:
        # NumPy would convert both to a third dtype.
        if array.dtype != first.dtype:
            raise ServingError(
                Code.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that "
                f"have different data types. Got {_dtype_name(first)} and {_dtype_name(array)}.",
            )


def _padded(name: str, arrays: Sequence[Array]) -> list[Array]:
    for array in arrays:
        if array.ndim > _MOST_DIMENSIONS_TO_PAD:
            raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
        if array.ndim != arrays[0].ndim:
            raise invalid_argument(
                f"Tensors with name '{name}' from different tasks have different ranks: "
                f"{arrays[0].ndim} and {array.ndim}"
            )
    shape = tuple(map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))
    return [_padded_to(array, shape) for array in arrays]


def _padded_to(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[1:] == shape:
        return array
    if not array.size:
        raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
    larger = np.full((len(array), *shape), array.reshape(-1)[0], array.dtype)
    larger[tuple(map(slice, array.shape))] = array
    return larger


def _dtype_name(array: Array) -> str:
    """The name of a dtype as `DataTypeString` writes it."""
    name: str = types_pb2.DataType.Name(dtype_number(array))
    return name.removeprefix("DT_").lower()
