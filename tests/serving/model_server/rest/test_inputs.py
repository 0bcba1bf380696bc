"""JSON to arrays: what is taken, as which dtype, for every dtype that JSON has something for."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import Code, ServingError
from serving.model_server.rest.document import parse_document
from serving.model_server.rest.inputs import input_arrays


def tensor(dtype: Any, name: str = "x") -> meta_graph_pb2.TensorInfo:
    return meta_graph_pb2.TensorInfo(name=f"{name}:0", dtype=tf.as_dtype(dtype).as_datatype_enum)


def column(text: str, dtype: Any) -> Any:
    arrays, by_rows = input_arrays(
        parse_document(f'{{"inputs": {text}}}'.encode()), {"x": tensor(dtype)}
    )
    assert not by_rows
    return arrays["x:0"]


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("1", tf.float32, np.float32(1)),
        ("[]", tf.float32, np.zeros(0, np.float32)),
        ("[[], []]", tf.int32, np.zeros((2, 0), np.int32)),
        ("[1, 2.5]", tf.float32, np.array([1, 2.5], np.float32)),
        # Rounded to the nearest, and infinite beyond the largest.
        ("[[0.1], [16777217]]", tf.float32, np.array([[0.1], [16777216]], np.float32)),
        ("[0.1, 9007199254740993]", tf.float64, np.array([0.1, 9007199254740992], np.float64)),
        ("[1e39, -1e39]", tf.float32, np.array([np.inf, -np.inf], np.float32)),
        ("[1e39]", tf.float64, np.array([1e39], np.float64)),
        (f"[1{'0' * 39}]", tf.float32, np.array([np.inf], np.float32)),
        # No integer of 64 bits, so a floating number for the real server.
        ("[18446744073709551616]", tf.float32, np.array([2**64], np.float32)),
        ("[NaN, -Infinity]", tf.float32, np.array([np.nan, -np.inf], np.float32)),
        ("[-2147483648, 2147483647]", tf.int32, np.array([-(2**31), 2**31 - 1], np.int32)),
        ("[-9223372036854775808]", tf.int64, np.array([-(2**63)], np.int64)),
        ("[18446744073709551615]", tf.uint64, np.array([2**64 - 1], np.uint64)),
        ("[4294967295]", tf.uint32, np.array([2**32 - 1], np.uint32)),
        # What is an int32 loses its upper bits, as in C++.
        ("[300, -1]", tf.uint8, np.array([44, 255], np.uint8)),
        ("[300, -1]", tf.int8, np.array([44, -1], np.int8)),
        ("[40000]", tf.int16, np.array([40000 - 65536], np.int16)),
        ("[true, false]", tf.bool, np.array([True, False])),
        ('["é", {"b64": "/wA="}]', tf.string, np.array(["é".encode(), b"\xff\0"], object)),
        # Without padding, and with white space.
        ('[{"b64": " /w\\nA "}]', tf.string, np.array([b"\xff\0"], object)),
        ('{"b64": ""}', tf.string, np.array(b"", object)),
    ],
)
def test_columns(text: str, dtype: Any, expected: Any) -> None:
    array = column(text, dtype)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_bytes_that_are_no_utf8() -> None:
    document = parse_document(b'{"inputs": ["\xff"], "inputs": ["second"]}')
    arrays, _ = input_arrays(document, {"x": tensor(tf.string)})
    assert list(arrays["x:0"]) == [b"\xff"]


def test_a_byte_order_mark() -> None:
    assert parse_document(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_rows_of_objects() -> None:
    inputs = {"a": tensor(tf.float32, "a"), "b": tensor(tf.int64, "b")}
    document = parse_document(b'{"instances": [{"a": [1, 2], "b": 3}, {"b": 4, "a": [5, 6]}]}')
    arrays, by_rows = input_arrays(document, inputs)
    assert by_rows
    np.testing.assert_array_equal(arrays["a:0"], np.array([[1, 2], [5, 6]], np.float32))
    np.testing.assert_array_equal(arrays["b:0"], [3, 4])


@pytest.mark.parametrize(
    ("text", "dtype", "message"),
    [
        ("[1.0]", tf.int32, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ("[2147483648]", tf.uint8, "Type: Number is not of expected type: uint8"),
        ("[-1]", tf.uint32, "Type: Number is not of expected type: uint32"),
        ("[9223372036854775808]", tf.int64, "Type: Number is not of expected type: int64"),
        ("[1]", tf.bool, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("[1]", tf.string, "JSON Value: 1 Type: Number is not of expected type: string"),
        ('[{"b64": 1}]', tf.string, "not formatted correctly for base64 data"),
        ('[{"b64": ""}]', tf.float32, "Type: Object is not of expected type: float"),
        (
            "[[[1], [2]], [3, 4]]",
            tf.float32,
            "JSON Value: 3 found at incorrect level: 3 in the JSON DOM. Expected at level: 3",
        ),
    ],
)
def test_what_is_of_another_type(text: str, dtype: Any, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        column(text, dtype)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert message in caught.value.message


def test_the_one_bad_row_of_many_is_named() -> None:
    for bad, message in ((1023, '"a"'), (1024, "null"), (4000, "true"), (4999, '"b"')):
        rows = ["0.5"] * 5000
        rows[bad] = message
        document = parse_document(f'{{"instances": [{",".join(rows)}]}}'.encode())
        with pytest.raises(ServingError) as caught:
            input_arrays(document, {"x": tensor(tf.float32)})
        assert caught.value.message.startswith(
            f"Failed to process element: {bad} of 'instances' list. Error: INVALID_ARGUMENT: "
            f"JSON Value: {message} Type: "
        )
    rows[3000] = rows[4999] = "[1]"
    document = parse_document(f'{{"instances": [{",".join(rows)}]}}'.encode())
    with pytest.raises(ServingError, match=r"element: 3000 .* \[\] but got: \[1\]"):
        input_arrays(document, {"x": tensor(tf.float32)})


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "uint16", "complex64"])
def test_dtypes_that_json_has_nothing_for(dtype: str) -> None:
    with pytest.raises(ServingError) as caught:
        column("[1]", dtype)
    assert caught.value.code == Code.UNIMPLEMENTED
    assert caught.value.message == f"Conversion of JSON Value: 1 to type: {dtype}"
