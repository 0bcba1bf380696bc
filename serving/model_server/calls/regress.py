"""Regress: lists of `tf.Example` in, a value for each out.

The order of the checks, their codes and their messages: `regressor.cc` of tensorflow/serving's
servables, with the check of method names off, which is the default there.
"""

from collections.abc import Mapping

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import regression_pb2

from ...errors import invalid_argument
from ...tensors import Array, dtype_number
from ..servables.core import ServerCore
from ..servables.servable import Servable
from .examples import INPUTS, run_on_examples, shape_text, signature_text
from .on_version import on_version

METHOD = "tensorflow/serving/regress"

_OUTPUTS = "outputs"


def regress(
    core: ServerCore, request: regression_pb2.RegressionRequest, timeout: float | None = None
) -> regression_pb2.RegressionResponse:
    """Answers a Regress call.

    Raises:
        ServingError: what TF Serving answers.
    """
    return on_version(core, request, run_regress, timeout)


def run_regress(
    servable: Servable,
    request: regression_pb2.RegressionRequest,
    timeout: float | None = None,
) -> regression_pb2.RegressionResponse:
    """Regress on one version; the reply's `model_spec` is without the version.

    Raises:
        ServingError: what TF Serving answers.
    """
    response = regression_pb2.RegressionResponse()
    run_on_examples(servable, request, regression_tensors, write_regressions, response, timeout)
    return response


def regression_tensors(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """The tensor to feed and the one to fetch.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is none for Regress.
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


def write_regressions(
    signature: meta_graph_pb2.SignatureDef,
    count: int,
    values: Mapping[str, Array],
    result: regression_pb2.RegressionResult,
) -> None:
    """Writes what a run of a signature gave.

    Args:
        signature: it.
        count: how many examples there were.
        values: name of a tensor of the graph -> its value: (count,) or (count, 1).
        result: empty; a value for each example is added.

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
