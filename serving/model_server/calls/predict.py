"""Predict: tensors in, tensors out.

Checks, codes and messages are those of `predict_impl.cc` and `predict_util.cc` of
tensorflow/serving's servables, and of `GetInputValues` in tensorflow/cc/saved_model/util.cc.
"""

from collections.abc import Iterable, Mapping

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from ...errors import failed_precondition, invalid_argument, not_serialisable
from ...tensors import (
    MOST_BYTES,
    MOST_FILLED,
    Array,
    TensorError,
    TensorLimitError,
    to_array,
    to_proto,
)
from ..servables.core import ServerCore
from ..servables.servable import DEFAULT_SIGNATURE, Servable
from .on_version import on_version
from .time_left import time_left


def predict(
    core: ServerCore, request: predict_pb2.PredictRequest, timeout: float | None = None
) -> predict_pb2.PredictResponse:
    """Answers a Predict call.

    Raises:
        ServingError: what TF Serving answers.
    """
    return on_version(core, request, run_predict, timeout)


def run_predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    timeout: float | None = None,
    most_filled: int = MOST_FILLED,
) -> predict_pb2.PredictResponse:
    """Runs a Predict call on a version; the `model_spec` of the response has no version.

    Args:
        servable: the version.
        request: the call.
        timeout: seconds left; None is no limit.
        most_filled: how many bytes of a tensor may be values that the request claims and lacks.

    Raises:
        ServingError: what TF Serving answers.
    """
    left = time_left(timeout)
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = predict_signature(servable, name)
    arrays = _inputs(signature, request.inputs, most_filled)
    outputs = predict_arrays(servable, signature, arrays, request.output_filter, left())
    # Checked before the copy, since Protobuf cannot serialise more.
    if sum(array.nbytes for array in outputs.values()) > MOST_BYTES:
        raise not_serialisable()
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = name
    for alias, array in outputs.items():
        to_proto(array, response.outputs[alias])
    return response


def predict_signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    """The signature that a Predict call names.

    Raises:
        ServingError: FAILED_PRECONDITION, there is no such signature.
    """
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return signature


def predict_arrays(
    servable: Servable,
    signature: meta_graph_pb2.SignatureDef,
    inputs: Mapping[str, Array],
    output_filter: Iterable[str] = (),
    timeout: float | None = None,
) -> dict[str, Array]:
    """Runs a signature on arrays.

    Args:
        servable: the version.
        signature: one of its signatures.
        inputs: name of a tensor of the graph -> its value.
        output_filter: aliases of the outputs to compute; empty is all.
        timeout: seconds left; None is no limit.

    Returns:
        Alias -> value, in the order of the filter.

    Raises:
        ServingError: the filter is wrong, or the run failed.
    """
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {{{_join(signature.outputs)}}}."
            )
        if alias in aliases:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    # Sorted, because the session keeps an executor for each order of fetches.
    aliases = aliases or sorted(signature.outputs)
    values = servable.run(inputs, [signature.outputs[alias].name for alias in aliases], timeout)
    return dict(zip(aliases, values, strict=True))


def _inputs(
    signature: meta_graph_pb2.SignatureDef,
    sent: Mapping[str, tensor_pb2.TensorProto],
    most_filled: int,
) -> dict[str, Array]:
    """Name of a tensor of the graph -> its value in the request, or its default."""
    expected, defaults = signature.inputs, signature.defaults
    if len(sent) > len(expected) or (len(sent) < len(expected) and not defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{_join(sent)}}}) != len({{{_join(expected)}}}). "
            f"Sent extra: {{{_join(set(sent) - set(expected))}}}. "
            f"Missing but required: {{{_join(set(expected) - set(sent))}}}."
        )
    arrays = {}
    for alias in sorted(expected):
        feed = expected[alias].name
        if alias not in sent and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {feed}) not found in request and no "
                "default value provided. Inputs expected to be in the request "
                f"{{{_join(sent)}}}, or default input alias set: {_join(defaults)}"
            )
        try:
            proto = sent[alias] if alias in sent else defaults[alias]
            arrays[feed] = to_array(proto, most_filled)
        except TensorLimitError as error:
            raise invalid_argument(f"tensor parsing error: {alias}: {error}") from error
        except TensorError as error:
            raise invalid_argument(f"tensor parsing error: {alias}") from error
    used = set(sent) & set(expected)
    if len(used) != len(sent):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_join(used)}, "
            f"request input: {_join(sent)}"
        )
    return arrays


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
