"""Classify: lists of `tf.Example` in, classes with scores out.

Checks, codes and messages are those of `classifier.cc` of tensorflow/serving's servables, with its
default of not checking method names.
"""

from collections.abc import Mapping

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2

from signatures import CLASSIFY_METHOD

from ...errors import invalid_argument
from ...tensors import Array, dtype_number
from .examples import INPUTS, ExampleMethod, shape_text, signature_text

_CLASSES, _SCORES = "classes", "scores"


def _tensors(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """The tensor to feed and those to fetch.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is not one for Classify.
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


def _write(
    signature: meta_graph_pb2.SignatureDef,
    count: int,
    values: Mapping[str, Array],
    result: classification_pb2.ClassificationResult,
) -> None:
    """Writes the classes of each example.

    Args:
        signature: the signature that was run.
        count: number of examples.
        values: name of a tensor -> its value: labels (count, K) and scores (count, K).
        result: empty; gets a row for each example.

    Raises:
        ServingError: the values do not fit the examples.
    """
    columns = _columns(signature, count, values)
    number = next(iter(columns.values())).shape[1]
    for row in range(count):
        classifications = result.classifications.add()
        for column in range(number):
            item = classifications.classes.add()
            if _CLASSES in columns:
                # The field has to be UTF-8; the labels of a model need not be.
                item.label = columns[_CLASSES][row, column].decode("utf-8", "replace")
            if _SCORES in columns:
                item.score = columns[_SCORES][row, column]


def _columns(
    signature: meta_graph_pb2.SignatureDef, count: int, values: Mapping[str, Array]
) -> dict[str, Array]:
    """The checked values of the outputs `classes` and `scores`, or of the one there is."""
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
    return columns


CLASSIFY = ExampleMethod(
    CLASSIFY_METHOD,
    classification_pb2.ClassificationResponse,
    "classification_result",
    _tensors,
    _write,
)
