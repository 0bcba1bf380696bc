"""Classify: lists of `tf.Example` in, classes with scores out.

The order of the checks, their codes and their messages: `classifier.cc` of tensorflow/serving's
servables, with the check of method names off, which is the default there.
"""

from collections.abc import Mapping

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2

from ...errors import invalid_argument
from ...tensors import Array, dtype_number
from ..servables.core import ServerCore
from ..servables.servable import Servable
from .examples import INPUTS, run_on_examples, shape_text, signature_text
from .on_version import on_version

METHOD = "tensorflow/serving/classify"

_CLASSES, _SCORES = "classes", "scores"


def classify(
    core: ServerCore,
    request: classification_pb2.ClassificationRequest,
    timeout: float | None = None,
) -> classification_pb2.ClassificationResponse:
    """Answers a Classify call.

    Raises:
        ServingError: what TF Serving answers.
    """
    return on_version(core, request, run_classify, timeout)


def run_classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    timeout: float | None = None,
) -> classification_pb2.ClassificationResponse:
    """Classify on one version; the reply's `model_spec` is without the version.

    Raises:
        ServingError: what TF Serving answers.
    """
    response = classification_pb2.ClassificationResponse()
    run_on_examples(servable, request, classification_tensors, write_classes, response, timeout)
    return response


def classification_tensors(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """The tensor to feed and those to fetch.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is none for Classify.
    """
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    if INPUTS not in signature.inputs:
        raise invalid_argument(
            f"No classification inputs found in SignatureDef: {signature_text(signature)}"
        )
    fetches = [
        signature.outputs[alias].name for alias in (_CLASSES, _SCORES) if alias in signature.outputs
    ]
    if not fetches:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or '
            f'"{_SCORES}". Signature was: {signature_text(signature)}'
        )
    return signature.inputs[INPUTS].name, fetches


def write_classes(
    signature: meta_graph_pb2.SignatureDef,
    count: int,
    values: Mapping[str, Array],
    result: classification_pb2.ClassificationResult,
) -> None:
    """Writes what a run of a signature gave.

    Args:
        signature: it.
        count: how many examples there were.
        values: name of a tensor of the graph -> its value: (count, K) labels, (count, K) scores.
        result: empty; a row for each example is added.

    Raises:
        ServingError: the values do not fit the examples.
    """
    columns: dict[str, Array] = {}
    for alias, dtype in ((_CLASSES, types_pb2.DT_STRING), (_SCORES, types_pb2.DT_FLOAT)):
        if alias not in signature.outputs:
            continue
        array = columns[alias] = values[signature.outputs[alias].name]
        if array.ndim != 2:
            raise invalid_argument(
                f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(array)}"
            )
        if dtype_number(array) != dtype:
            raise invalid_argument(
                f"Expected {alias} Tensor of {types_pb2.DataType.Name(dtype)}. "
                f"Got: {types_pb2.DataType.Name(dtype_number(array))}"
            )
        if len(array) != count:
            raise invalid_argument(
                f"Expected {alias} output batch size of {count}. Got: {len(array)}"
            )
    if len(columns) == 2 and columns[_CLASSES].shape[1] != columns[_SCORES].shape[1]:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). "
            f"Got {columns[_CLASSES].shape[1]} vs. {columns[_SCORES].shape[1]}"
        )
    number = next(iter(columns.values())).shape[1]
    for row in range(count):
        classifications = result.classifications.add()
        for column in range(number):
            item = classifications.classes.add()
            if _CLASSES in columns:
                item.label = _text(columns[_CLASSES][row, column])
            if _SCORES in columns:
                item.score = columns[_SCORES][row, column]


def _text(label: bytes) -> str:
    """A label as text: the field has to be UTF-8, and a label of a model need not be."""
    return label.decode("utf-8", "replace")
