"""Converts `TensorProto` to arrays and back, like `Tensor::FromProto` and `AsProtoField`.

Source: tensorflow/core/framework/tensor.cc.
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = npt.NDArray[Any]

MOST_BYTES = 2**31 - 1
"""The largest size of a message, and of a tensor."""

MOST_DIMENSIONS = 32
"""The most dimensions of a tensor. TensorFlow's own limit is 254, but its library for Python ends
the process on an array of strings with more than 32, because NumPy's iterators take no more."""

MOST_FILLED = 16 * 2**20
"""The most bytes of an array for values that a message claims and does not have. Zeros for an image
of each variant are less; what a few bytes can take from a server is no more."""

_MOST_ELEMENTS = 2**63 - 1

# The field that holds a dtype's values, by the dtype's number.
_FIELDS = {
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_STRING: "string_val",
}
_NUMPY = {number: np.dtype(tf.as_dtype(number).as_numpy_dtype) for number in _FIELDS}
# Fields whose packed bytes equal the array's bytes, with the number of the field. They are copied
# as a whole, because copying value by value takes longer than running a small model.
_PACKED = {
    "float_val": 5,
    "double_val": 6,
    "scomplex_val": 9,
    "bool_val": 11,
    "dcomplex_val": 12,
}


class TensorError(ValueError):
    """A malformed `TensorProto`."""


class TensorLimitError(TensorError):
    """A `TensorProto` that TensorFlow might read and this package does not; one line says why."""


def to_array(proto: tensor_pb2.TensorProto, most_filled: int = MOST_FILLED) -> Array:
    """The array of a message. Strings become an object array of bytes.

    If the message has `tensor_content`, its length has to match the shape. Otherwise the values are
    those of the typed field: an empty field means zeros, the last of too few values is repeated,
    and surplus values are ignored. `unknown_rank` is ignored, as in `TensorShape::IsValid`.

    Args:
        proto: the message.
        most_filled: how many bytes the values that were not sent may take.

    Raises:
        TensorError: the dtype is unknown, the shape is negative or too large, or the content has
            the wrong length.
        TensorLimitError: there are more than `MOST_DIMENSIONS` dimensions, or the values that were
            not sent would take more than `most_filled` bytes.
    """
    field = _FIELDS.get(proto.dtype)
    if field is None:
        raise TensorError(f"dtype {proto.dtype}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    check_dimensions(len(shape))
    dtype = _NUMPY[proto.dtype]
    count = math.prod(shape)
    # TensorFlow and NumPy multiply the other sizes of an empty tensor too.
    elements = math.prod(max(size, 1) for size in shape)
    if (
        min(shape, default=0) < 0
        or elements > _MOST_ELEMENTS
        or count * dtype.itemsize > MOST_BYTES
    ):
        raise TensorError(f"shape {shape}")
    has_content = bool(count and proto.tensor_content)
    if not has_content:
        _check_filled(len(getattr(proto, field)), count, dtype, most_filled)
    try:
        if has_content:
            return _from_content(proto.tensor_content, dtype, count).reshape(shape)
        return _from_field(proto, field, dtype, count).reshape(shape)
    except (ValueError, OverflowError) as error:
        # More dimensions than NumPy supports, or values outside the dtype's range.
        raise TensorError(str(error)) from error


def check_dimensions(number: int) -> None:
    """Checks the number of dimensions of a tensor.

    Raises:
        TensorLimitError: there are more than `MOST_DIMENSIONS`.
    """
    if number > MOST_DIMENSIONS:
        raise TensorLimitError(f"{number} dimensions; expected {MOST_DIMENSIONS} at most")


def to_proto(array: Array, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into an empty message, in the typed field of its dtype.

    TF Serving answers in typed fields by default, and clients read these.
    """
    proto.dtype = dtype_number(array)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if not array.size:
        return
    field = _FIELDS[proto.dtype]
    if field in _PACKED:
        content = array.tobytes()
        proto.MergeFromString(_packed_header(field, len(content)) + content)
        return
    flat = array.reshape(-1)
    if field == "half_val":
        flat = flat.view(np.uint16)
    getattr(proto, field).extend(flat.tolist())


def dtype_number(array: Array) -> int:
    """The number of an array's dtype in TensorFlow."""
    if array.dtype.kind == "O":
        return int(types_pb2.DT_STRING)
    return int(tf.as_dtype(array.dtype).as_datatype_enum)


def _from_content(content: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if dtype.kind == "O":
        return _objects(_strings(content, count))
    if len(content) != count * dtype.itemsize:
        raise TensorError(f"{len(content)} bytes; expected {count * dtype.itemsize}")
    return np.frombuffer(content, dtype)


def _from_field(
    proto: tensor_pb2.TensorProto, field: str, dtype: np.dtype[Any], count: int
) -> Array:
    values = getattr(proto, field)
    array: Array
    if not values:
        return np.full(count, b"" if dtype.kind == "O" else 0, dtype)
    # Without a list of Python's numbers, each of which takes more than its byte in the message.
    used = itertools.islice(values, count)
    if dtype.kind == "O":
        array = _objects(list(used))
    elif field in _PACKED:
        array = _packed_values(proto, field, dtype)[:count]
    elif field == "half_val":
        array = np.fromiter(used, np.uint16).view(dtype)
    else:
        # C++ narrows without a check, and so does this.
        array = np.fromiter(used, np.uint64 if dtype.kind == "u" else np.int64).astype(dtype)
    if len(array) == count:
        return array
    whole = np.full(count, array[-1], dtype)
    whole[: len(array)] = array
    return whole


def _check_filled(numbers: int, count: int, dtype: np.dtype[Any], most: int) -> None:
    """Checks what is to be filled in, before memory is taken for it.

    Args:
        numbers: how many entries the field of the values has.
        count: how many values the shape has.
        dtype: that of the array.
        most: how many bytes may be filled in.

    Raises:
        TensorLimitError: more than `most` bytes are to be filled in.
    """
    # A complex value is two numbers.
    sent = numbers // 2 if dtype.kind == "c" else numbers
    filled = max(0, count - sent) * dtype.itemsize
    if filled > most:
        raise TensorLimitError(
            f"{sent} of {count} values were sent and the others take {filled} bytes; "
            f"expected {most} at most"
        )


def _packed_values(
    proto: tensor_pb2.TensorProto, field: str, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """All values of a field, from the end of the serialised message."""
    values = getattr(proto, field)
    per_element = 2 if dtype.kind == "c" else 1
    size = len(values) * dtype.itemsize // per_element
    data = proto.SerializeToString()
    header = _packed_header(field, size)
    if data[-size - len(header) : -size] != header:
        # Another field follows, which only an unusual client sends.
        parts = np.array(values, bool if dtype.kind == "b" else np.dtype(f"f{size // len(values)}"))
        return parts.view(dtype)
    return np.frombuffer(data, dtype, offset=len(data) - size)


def _packed_header(field: str, size: int) -> bytes:
    """The tag and the length before the bytes of a packed field."""
    return _varint(_PACKED[field] << 3 | 2) + _varint(size)


def _objects(strings: list[bytes]) -> npt.NDArray[np.object_]:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _strings(content: bytes, count: int) -> list[bytes]:
    """Reads strings of `port::EncodeStringList`: all lengths as varints, then all bytes."""
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 28:
                raise TensorError("lengths of strings")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise TensorError("bytes of strings")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
