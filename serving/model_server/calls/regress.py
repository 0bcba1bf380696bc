"""Regress: lists of `tf.Example` in, a value for each out.

Checks, codes and messages are those of `regressor.cc` of tensorflow/serving's servables, with its
default of not checking method names.
"""

from collections.abc import Mapping

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import regression_pb2

from ...errors import invalid_argument
from ...tensors import Array, dtype_number
from .examples import INPUTS, ExampleMethod, shape_text, signature_text

_OUTPUTS = "outputs"


def _tensors(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """The tensor to feed and the one to fetch.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is not one for Regress.
    """
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise invalid_argument(
            f"No regression inputs found in SignatureDef: {signature_text(signature)}"
        )
    if _OUTPUTS not in signature.outputs:
        raise invalid_argument(
            f"No regression outputs found in SignatureDef: {signature_text(signature)}"
        )
    return signature.inputs[INPUTS].name, [signature.outputs[_OUTPUTS].name]


def _write(
    signature: meta_graph_pb2.SignatureDef,
    count: int,
    values: Mapping[str, Array],
    result: regression_pb2.RegressionResult,
) -> None:
    """Writes the value of each example.

    Args:
        signature: the signature that was run.
        count: number of examples.
        values: name of a tensor -> its value: (count,) or (count, 1).
        result: empty; gets a value for each example.

    Raises:
        ServingError: the values do not fit the examples.
    """
    array = values[signature.outputs[_OUTPUTS].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{shape_text(array)}"
        )
    if len(array) != count:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {count} vs. {len(array)}"
        )
    if dtype_number(array) != types_pb2.DT_FLOAT:
        raise invalid_argument(
            "Expected output Tensor of DT_FLOAT.  "
            f"Got: {types_pb2.DataType.Name(dtype_number(array))}"
        )
    for value in array.reshape(-1):
        result.regressions.add().value = value


REGRESS = ExampleMethod(
    "tensorflow/serving/regress",
    regression_pb2.RegressionResponse,
    "regression_result",
    _tensors,
    _write,
)
