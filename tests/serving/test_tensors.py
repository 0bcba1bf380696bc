"""`TensorProto` to arrays and back, against TensorFlow's own conversion."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.tensors import (
    MOST_DIMENSIONS,
    MOST_FILLED,
    TensorError,
    TensorLimitError,
    to_array,
    to_proto,
)

NUMBERS = [
    np.float16,
    tf.bfloat16.as_numpy_dtype,
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.complex64,
    np.complex128,
]


def array_of(dtype: Any) -> Any:
    if dtype is bytes:
        return np.array([[b"", b"\0\xff", b"a" * 300], [b"b", b"c", b"d"]], object)
    if dtype is bool:
        return np.array([[True, False, True], [False, False, True]])
    return np.arange(1, 7).reshape(2, 3).astype(dtype)


@pytest.mark.parametrize("dtype", [*NUMBERS, bool, bytes])
def test_written_as_tensorflow_reads(dtype: Any) -> None:
    array = array_of(dtype)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    assert not proto.tensor_content
    read = tf.make_ndarray(proto)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(to_array(proto), array)


@pytest.mark.parametrize("dtype", [*NUMBERS, bool])
def test_content_is_read(dtype: Any) -> None:
    array = array_of(dtype)
    proto = tensor_pb2.TensorProto(
        dtype=tf.as_dtype(array.dtype).as_datatype_enum, tensor_content=array.tobytes()
    )
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    read = to_array(proto)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_strings_in_content_are_read() -> None:
    array = array_of(bytes)
    proto = tf.make_tensor_proto(array)
    lengths = b"".join(
        bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
        for text in array.flat
    )
    del proto.string_val[:]
    proto.tensor_content = lengths + b"".join(array.flat)
    np.testing.assert_array_equal(to_array(proto), array)


@pytest.mark.parametrize("dtype", [*NUMBERS, bool, bytes])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_empty_tensors(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.full(shape, array_of(dtype)[0, 1], object if dtype is bytes else dtype)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    read = to_array(proto)
    assert (read.shape, read.dtype) == (shape, array.dtype)
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("dtype", [*NUMBERS, bool, bytes])
def test_too_few_values_are_continued_and_too_many_cut(dtype: Any) -> None:
    array = array_of(dtype).reshape(-1)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    proto.tensor_shape.dim[0].size = 8
    np.testing.assert_array_equal(to_array(proto), [*array, array[-1], array[-1]])
    proto.tensor_shape.dim[0].size = 2
    np.testing.assert_array_equal(to_array(proto), array[:2])


@pytest.mark.parametrize("dtype", [*NUMBERS, bool, bytes])
def test_no_values_are_zeros(dtype: Any) -> None:
    proto = tensor_pb2.TensorProto(
        dtype=tf.as_dtype("string" if dtype is bytes else dtype).as_datatype_enum
    )
    proto.tensor_shape.dim.add(size=2)
    zero = b"" if dtype is bytes else 0
    assert list(to_array(proto)) == [zero, zero]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, bool])
def test_values_in_other_fields_do_not_matter(dtype: Any) -> None:
    array = array_of(dtype)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    proto.half_val.extend([1, 2, 3])
    proto.uint64_val.extend([4, 5, 6])
    np.testing.assert_array_equal(to_array(proto), array)


def test_a_mark_of_an_unknown_rank_is_passed_over() -> None:
    proto = tf.make_tensor_proto(array_of(np.float32))
    proto.tensor_shape.unknown_rank = True
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.float32).numpy()
    np.testing.assert_array_equal(to_array(proto), expected)
    np.testing.assert_array_equal(expected, array_of(np.float32))


def test_what_is_no_tensor() -> None:
    proto = tf.make_tensor_proto(np.zeros(3, np.float32))
    for dims in ([-1], [2**40, 2**40], [1] * 200):
        broken = tensor_pb2.TensorProto(dtype=proto.dtype)
        for size in dims:
            broken.tensor_shape.dim.add(size=size)
        with pytest.raises(TensorError):
            to_array(broken)
    with pytest.raises(TensorError, match="11 bytes; expected 12"):
        to_array(
            tensor_pb2.TensorProto(
                dtype=proto.dtype, tensor_shape=proto.tensor_shape, tensor_content=b"\0" * 11
            )
        )
    resource = tensor_pb2.TensorProto(dtype=tf.resource.as_datatype_enum)
    with pytest.raises(TensorError, match="dtype"):
        to_array(resource)


def shaped(dtype: Any, shape: list[int]) -> Any:
    """A tensor without content."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("dtype", [tf.string, tf.float32, tf.int8])
def test_more_dimensions_than_are_taken(dtype: Any) -> None:
    assert to_array(shaped(dtype, [1] * MOST_DIMENSIONS)).shape == (1,) * MOST_DIMENSIONS
    for number in (33, 64, 65, 255, 1000):
        with pytest.raises(TensorLimitError) as caught:
            to_array(shaped(dtype, [1] * number))
        assert str(caught.value) == f"{number} dimensions; expected 32 at most"


@pytest.mark.parametrize("dtype", [tf.string, tf.float32, tf.int8])
@pytest.mark.parametrize(
    "shape",
    [
        [-1],
        [0, -1],
        [-1, -1],
        [-(2**63)],
        [2**63 - 1, 0],
        [0, 2**62, 2**62],
        [2**32, 2**32, 0],
        [2**31, 2**31, 2**31],
        [2**63 - 1] * 32,
    ],
)
def test_sizes_that_no_tensor_has(dtype: Any, shape: list[int]) -> None:
    if dtype == tf.int8 and shape == [2**63 - 1, 0]:
        # An empty tensor of as many bytes as can be counted.
        assert to_array(shaped(dtype, shape)).shape == tuple(shape)
        return
    with pytest.raises(TensorError):
        to_array(shaped(dtype, shape))


@pytest.fixture
def memory() -> Iterator[None]:
    """The test takes no more memory than may be filled in, and a little."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1.5 * MOST_FILLED
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (tf.string, [20_000_000]),
        (tf.string, [250_000_000]),
        (tf.float32, [3566, 224, 224, 3]),
        (tf.bool, [2**31 - 1]),
        (tf.float16, [2**30 - 1]),
        (tf.int32, [2**29 - 1]),
        (tf.complex128, [2**27 - 1]),
    ],
)
@pytest.mark.parametrize("values", [0, 1])
@pytest.mark.usefixtures("memory")
def test_values_that_are_claimed_and_not_sent(dtype: Any, shape: list[int], values: int) -> None:
    proto = shaped(dtype, shape)
    if values:
        field = tf.make_tensor_proto(np.full(1, b"x" if dtype == tf.string else 1), dtype)
        field.ClearField("tensor_shape")
        proto.MergeFrom(field)
    count = int(np.prod(shape, dtype=object))
    with pytest.raises(TensorLimitError, match=f"^{values} of {count} values were sent and the o"):
        to_array(proto)


@pytest.mark.usefixtures("memory")
def test_an_image_that_is_claimed_and_not_sent() -> None:
    """TF Serving takes it for zeros, or for the last value again."""
    proto = shaped(tf.float32, [6, 448, 448, 3])
    assert not to_array(proto).any()
    proto.float_val.append(2)
    assert (to_array(proto) == 2).all()


def test_values_that_are_sent_have_no_limit() -> None:
    array = np.ones(MOST_FILLED // 4 + 10, np.int32)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    np.testing.assert_array_equal(to_array(proto), array)
