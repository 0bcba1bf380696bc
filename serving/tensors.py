"""`TensorProto` to arrays and back, as `Tensor::FromProto` and `AsProtoField` do it.

Source: tensorflow/core/framework/tensor.cc.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = npt.NDArray[Any]

MOST_BYTES = 2**31 - 1
"""The most that a message holds. A tensor without content is read as zeros of its shape, and with
this bound one cannot claim more memory than could have been sent."""

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
# Fields whose packed bytes are the array's own bytes, with the number of the field. Reading and
# writing them as a whole takes a copy; value by value it takes longer than a small model.
_PACKED = {
    "float_val": 5,
    "double_val": 6,
    "scomplex_val": 9,
    "bool_val": 11,
    "dcomplex_val": 12,
}


class TensorError(ValueError):
    """A `TensorProto` that is not a tensor."""


def to_array(proto: tensor_pb2.TensorProto) -> Array:
    """The array that a message holds. Strings become an object array of bytes.

    Content decides if there is any: it has to be exactly as long as the shape needs. Otherwise the
    typed field does: none of its values are zeros, too few are continued with the last, what is
    too much is not read. A mark that the rank is unknown counts for nothing, as
    `TensorShape::IsValid` passes it over: the sizes that are there are the shape.

    Raises:
        TensorError: an unknown dtype, a shape with a negative or absurd size, or content of the
            wrong length.
    """
    field = _FIELDS.get(proto.dtype)
    if field is None:
        raise TensorError(f"dtype {proto.dtype}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    dtype = _NUMPY[proto.dtype]
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count * dtype.itemsize > MOST_BYTES:
        raise TensorError(f"shape {shape}")
    try:
        if count and proto.tensor_content:
            return _from_content(proto.tensor_content, dtype, count).reshape(shape)
        return _from_field(proto, field, dtype, count).reshape(shape)
    except (ValueError, OverflowError) as error:
        # More dimensions than NumPy has, or values that do not fit the dtype.
        raise TensorError(str(error)) from error


def to_proto(array: Array, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into an empty message, in the typed field of its dtype.

    TF Serving answers in typed fields unless it is told otherwise, and clients read them.
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
    given: Array
    if not values:
        return np.full(count, b"" if dtype.kind == "O" else 0, dtype)
    if dtype.kind == "O":
        given = _objects(list(values[:count]))
    elif field in _PACKED:
        given = _packed_values(proto, field, dtype)[:count]
    elif field == "half_val":
        given = np.array(values[:count], np.uint16).view(dtype)
    else:
        # C++ narrows without a check.
        wide = np.uint64 if dtype.kind == "u" else np.int64
        given = np.array(values[:count], wide).astype(dtype)
    if len(given) == count:
        return given
    array = np.full(count, given[-1], dtype)
    array[: len(given)] = given
    return array


def _packed_values(
    proto: tensor_pb2.TensorProto, field: str, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """All values of a field, out of the message's own bytes, which end with them."""
    values = getattr(proto, field)
    per_element = 2 if dtype.kind == "c" else 1
    size = len(values) * dtype.itemsize // per_element
    data = proto.SerializeToString()
    header = _packed_header(field, size)
    if data[-size - len(header) : -size] != header:
        # Another field comes after it, which only an odd client sends.
        parts = np.array(values, bool if dtype.kind == "b" else np.dtype(f"f{size // len(values)}"))
        return parts.view(dtype)
    return np.frombuffer(data, dtype, offset=len(data) - size)


def _packed_header(field: str, size: int) -> bytes:
    """What is before the bytes of a packed field."""
    return _varint(_PACKED[field] << 3 | 2) + _varint(size)


def _objects(strings: list[bytes]) -> npt.NDArray[np.object_]:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _strings(content: bytes, count: int) -> list[bytes]:
    """Strings as `port::EncodeStringList` writes them: all lengths as varints, then all bytes."""
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
