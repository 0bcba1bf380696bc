"""JSON to `tf.Example`: the inputs of REST's classify and regress calls.

Source: `FillClassifyRegressRequestFromJson` and what it calls in util/json_tensor.cc of
tensorflow/serving.
"""

from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import input_pb2

from ...errors import invalid_argument
from .document import Document, format_error, to_bytes, type_name
from .values import as_floats, base64_bytes, is_base64

EXAMPLES, CONTEXT = "examples", "context"

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_examples(document: Document, message: input_pb2.Input) -> None:
    """Writes the examples of a document, and their context if it has one.

    Args:
        document: the request.
        message: an empty message.

    Raises:
        ServingError: INVALID_ARGUMENT, the document is wrong.
    """
    target = message.example_list
    if CONTEXT in document:
        target = message.example_list_with_context
        _fill(document[CONTEXT], target.context)
    if EXAMPLES not in document:
        raise format_error(
            document, f"When method is classify, key '{EXAMPLES}' is expected and was not found"
        )
    examples = document[EXAMPLES]
    if not isinstance(examples, list):
        raise format_error(document, f"Expecting '{EXAMPLES}' value to be an list/array")
    if not examples:
        raise format_error(document, f"'{EXAMPLES}' value is an empty array")
    for value in examples:
        _fill(value, target.examples.add())


def _fill(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        text = to_bytes(name).decode("utf-8", "replace")
        feature = example.features.feature[text]
        for item in content if isinstance(content, list) else [content]:
            _add(item, text, feature)


def _add(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _values(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _values(feature, "bytes_list", name).append(to_bytes(value))
    elif is_base64(value):
        _values(feature, "bytes_list", name).append(base64_bytes(value))
    elif isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
        values = _values(feature, "float_list", name)
        values.extend(as_floats([value], types_pb2.DT_FLOAT).tolist())
    elif isinstance(value, int):
        values = _values(feature, "int64_list", name)
        if value >= 2**63:
            raise invalid_argument(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        values.append(value)
    else:
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
        )


def _values(feature: feature_pb2.Feature, kind: str, name: str) -> Any:
    """The list of a feature, whose values all have one kind."""
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {_KINDS[found]}"
        )
    return getattr(feature, kind).value
