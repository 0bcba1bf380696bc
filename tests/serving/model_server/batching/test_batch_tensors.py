"""Joining arrays of requests, and splitting what comes out."""

from typing import Any

import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.model_server.batching.tensors import count_rows, join, rejoin, split

ONE = np.array([[1, 2]], np.float32)
TWO = np.array([[3, 4], [5, 6]], np.float32)


def test_rows_are_those_of_every_input() -> None:
    assert count_rows({"a": ONE, "b": np.zeros((1, 7))}) == 1
    assert count_rows({"a": np.zeros((0, 2))}) == 0
    for feeds, message in [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"a": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        ({"a": ONE, "b": TWO}, "Batching Run() input tensors must have equal 0th-dimension size"),
    ]:
        with pytest.raises(ServingError) as caught:
            count_rows(feeds)  # type: ignore[arg-type]
        assert str(caught.value) == f"INVALID_ARGUMENT: {message}"


def test_requests_are_joined_in_their_order() -> None:
    strings = [np.array([b"a", b"bc"], object), np.array([b""], object)]
    requests = [{"x": TWO, "s": strings[0]}, {"s": strings[1], "x": ONE}]
    joined = join(requests, 0, False)
    np.testing.assert_array_equal(joined["x"], [[3, 4], [5, 6], [1, 2]])
    assert joined["s"].tolist() == [b"a", b"bc", b""]


def test_one_request_is_not_copied() -> None:
    assert join([{"x": TWO}], 0, False)["x"] is TWO


def test_padding_repeats_the_first_row_of_the_last_request() -> None:
    joined = join([{"x": ONE}, {"x": TWO}], 2, False)["x"]
    np.testing.assert_array_equal(joined, [[1, 2], [3, 4], [5, 6], [3, 4], [3, 4]])


def test_different_shapes_are_not_joined() -> None:
    with pytest.raises(ServingError) as caught:
        join([{"x:0": ONE}, {"x:0": np.zeros((1, 3), np.float32)}], 0, False)
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert caught.value.message.startswith("Tensors with name 'x:0' from different tasks have diff")


@pytest.mark.parametrize("pad", [False, True])
def test_different_dtypes_are_not_joined(pad: bool) -> None:
    for other, name in [(np.zeros((1, 2)), "double"), (np.array([[b"", b""]], object), "string")]:
        with pytest.raises(ServingError) as caught:
            join([{"x": ONE}, {"x": other}], 0, pad)
        assert str(caught.value) == (
            "INTERNAL: Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate "
            f"tensors that have different data types. Got float and {name}."
        )


def test_variable_lengths_are_padded_with_the_first_element() -> None:
    long = np.array([[7, 8, 9]], np.float32)
    joined = join([{"x": TWO}, {"x": long}], 1, True)["x"]
    np.testing.assert_array_equal(joined, [[3, 4, 3], [5, 6, 3], [7, 8, 9], [7, 8, 9]])
    deep = [np.arange(4.0).reshape(1, 2, 2), np.zeros((1, 1, 3))]
    joined = join([{"x": array} for array in deep], 0, True)["x"]
    np.testing.assert_array_equal(joined[0], [[0, 1, 0], [2, 3, 0]])
    assert joined.shape == (2, 2, 3)
    words = [np.array([[b"a"]], object), np.array([[b"b", b"c"]], object)]
    assert join([{"x": array} for array in words], 0, True)["x"].tolist() == [
        [b"a", b"a"],
        [b"b", b"c"],
    ]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 0), (1, 2)], "Got empty tensor in batch of non-empty tensors."),
        ([(1,) * 7], "Only tensors with rank from 1 to 6 can be padded."),
        (
            [(1, 2), (1, 2, 1)],
            "Tensors with name 'x' from different tasks have different ranks: 2 and 3",
        ),
    ],
)
def test_what_cannot_be_padded(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        join([{"x": np.zeros(shape)} for shape in shapes], 0, True)
    assert str(caught.value) == f"INVALID_ARGUMENT: {message}"


def test_outputs_are_split_and_the_padding_is_dropped() -> None:
    y, z = np.arange(5), np.arange(10).reshape(5, 2)
    first, second = split([y, z], [1, 2], 2)
    assert [array.tolist() for array in first] == [[0], [[0, 1]]]
    assert [array.tolist() for array in second] == [[1, 2], [[2, 3], [4, 5]]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(2),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_outputs_that_are_no_batch(output: Any, message: str) -> None:
    for sizes, padding in [([1, 2], 0), ([3], 0), ([1], 2)]:
        with pytest.raises(ServingError) as caught:
            split([np.zeros(3), output], sizes, padding)
        assert str(caught.value) == f"FAILED_PRECONDITION: {message}"


def test_parts_are_put_together() -> None:
    assert [a.tolist() for a in rejoin([[np.arange(2)], [np.arange(3)]])] == [[0, 1, 0, 1, 2]]
    with pytest.raises(ServingError, match="INTERNAL: Tensor concat operation failed: "):
        rejoin([[np.zeros((1, 2))], [np.zeros((1, 3))]])
