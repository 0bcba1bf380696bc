"""Single values of JSON: which of them a dtype accepts, and the errors for the others.

Source: `AddValueToTensor` and `JsonDecodeBase64Object` in util/json_tensor.cc of
tensorflow/serving.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from ...errors import Code, ServingError, invalid_argument
from ...tensors import Array
from .document import Document, format_error, shown, to_bytes, type_name

_BASE64 = "b64"
FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_INT32 = (-(2**31), 2**31 - 1)
# The values that are accepted; those too large for the type lose their upper bits, as in C++.
INTEGERS = {
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_FLOAT_NAMES = {"float16": "half", "float32": "float", "float64": "double"}


def is_base64(value: object) -> bool:
    """Whether a value is `{"b64": "..."}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_BASE64), str)


def base64_bytes(value: Document) -> bytes:
    """The bytes of `{"b64": "..."}`. Padding is optional and white space is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    text = "".join(value[_BASE64].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


def as_floats(numbers: Sequence[float], dtype: int) -> Array:
    """Numbers as an array of a floating type; numbers too large for it become infinite.

    Raises:
        ServingError: INVALID_ARGUMENT, an integer is too large for any floating type.
    """
    try:
        wide = np.array(numbers, np.float64)
    except OverflowError:
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from None
    with np.errstate(over="ignore"):
        return wide.astype(tf.as_dtype(dtype).as_numpy_dtype)


def check_value(value: Any, dtype: int) -> None:
    """Checks a single value of a dtype.

    Raises:
        ServingError: INVALID_ARGUMENT, the value has another type; UNIMPLEMENTED, JSON has no
            values of the dtype.
    """
    if dtype == types_pb2.DT_STRING and isinstance(value, str):
        to_bytes(value)
        return
    if dtype == types_pb2.DT_STRING and isinstance(value, dict):
        base64_bytes(value)
        return
    if dtype in FLOATS:
        right = type(value) in (int, float)
    elif dtype in INTEGERS:
        least, most = INTEGERS[dtype]
        right = type(value) is int and least <= value <= most
    elif dtype == types_pb2.DT_BOOL:
        right = isinstance(value, bool)
    elif dtype == types_pb2.DT_STRING or isinstance(value, dict):
        right = False
    else:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown(value)} to type: {_dtype_name(dtype)}",
        )
    if not right:
        raise invalid_argument(
            f"JSON Value: {shown(value)} Type: {type_name(value)} is not of expected type: "
            f"{_dtype_name(dtype)}"
        )


def _dtype_name(dtype: int) -> str:
    name: str = tf.as_dtype(dtype).name
    return _FLOAT_NAMES.get(name, name)
