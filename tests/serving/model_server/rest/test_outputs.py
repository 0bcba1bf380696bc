"""Arrays to JSON: every number comes back as it was, and each form is laid out as it should be."""

import json
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.model_server.rest.outputs import columns_json, rows_json


def numbers(array: Any) -> list[str]:
    """The numbers of a vector, as they are written."""
    return rows_json({"y": array}).split("[")[1].split("\n")[0].split(", ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1, "1.0"),
        (-0.0, "-0.0"),
        (123456, "123456.0"),
        (1e6, "1e+06"),
        (9000000, "9e+06"),
        (0.00003, "3e-05"),
        (16777216, "16777216.0"),
        (np.pi, "3.14159274"),
        (3.4028235e38, "3.40282347e+38"),
        (np.nan, "NaN"),
        (np.inf, "Infinity"),
        (-np.inf, "-Infinity"),
    ],
)
def test_how_numbers_are_written(value: float, text: str) -> None:
    assert numbers(np.array([value, 0.5], np.float32)) == [text, "0.5"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_comes_back(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    bits = np.frombuffer(rng.bytes(200_000), dtype)
    decimals = np.round(rng.normal(size=20_000) * 1000, rng.integers(0, 6)).astype(dtype)
    for array in (bits, decimals, rng.normal(size=20_000).astype(dtype)):
        back = np.array([float(text) for text in numbers(array)]).astype(dtype)
        np.testing.assert_array_equal(back, array)
        for text, value in zip(numbers(array), array.tolist(), strict=True):
            if f"{value:.6g}" not in ("inf", "-inf", "nan") and dtype(f"{value:.6g}") == value:
                assert text.removesuffix(".0") == f"{value:.6g}"


def test_the_layout_of_columns() -> None:
    reply = columns_json({"y": np.array([[1, 2], [3, 4]]), "none": np.zeros((2, 0), bool)})
    assert reply == json.dumps({"outputs": {"none": [[], []], "y": [[1, 2], [3, 4]]}}, indent=4)
    assert columns_json({"y": np.array(True)}) == '{\n    "outputs": true\n}'


def test_rows_of_any_rank() -> None:
    cube = np.arange(24).reshape(2, 3, 4)
    assert json.loads(rows_json({"y": cube})) == {"predictions": cube.tolist()}
    assert json.loads(columns_json({"y": cube})) == {"outputs": cube.tolist()}
    assert json.loads(rows_json({"y": cube[:0]})) == {"predictions": []}
    assert json.loads(rows_json({"y": cube[:, :0]})) == {"predictions": [[], []]}


def test_strings() -> None:
    strings = np.array(['é"\n'.encode(), b""], object)
    assert json.loads(rows_json({"y": strings})) == {"predictions": ['é"\n', ""]}
    assert json.loads(rows_json({"y_bytes": strings})) == {
        "predictions": [{"b64": "w6kiCg=="}, {"b64": ""}]
    }
    assert b'["\xff"' in rows_json({"y": np.array([b"\xff"], object)}).encode(
        "utf-8", "surrogateescape"
    )


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            "Tensor name: b has inconsistent batch size: 3 expecting: 2",
        ),
        (
            {"y": np.zeros(1, np.complex64)},
            "Failed to write JSON value for tensor type: complex64",
        ),
    ],
)
def test_what_has_no_rows(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        rows_json(outputs)
    assert caught.value.message == message
