"""What Classify, Regress and MultiInference share: lists of `tf.Example`, and texts for errors.

Source: `util.cc` of tensorflow/serving's servables.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2

from ...errors import invalid_argument
from ...tensors import Array
from ..servables.core import ServerCore
from ..servables.servable import DEFAULT_SIGNATURE, Servable
from .on_version import on_version
from .time_left import time_left

INPUTS = "inputs"
"""Alias of the only input of these signatures."""


def serialised_examples(message: input_pb2.Input) -> Array:
    """The examples of an input, serialised, as an object array of shape (B,).

    The bytes of a context go before each example: protobuf reads two messages in a row as merged.

    Raises:
        ServingError: INVALID_ARGUMENT, the input has no examples.
    """
    kind = message.WhichOneof("kind")
    examples = getattr(message, kind).examples if kind else ()
    if not examples:
        raise invalid_argument("Input is empty.")
    context = b""
    if kind == "example_list_with_context":
        context = message.example_list_with_context.context.SerializeToString()
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


@dataclasses.dataclass(frozen=True)
class ExampleMethod:
    """A method that takes examples: Classify or Regress.

    Attributes:
        name: TF Serving's name of it.
        response: class of its responses.
        result_field: where a MultiInference result has its result.
        tensors: checks a signature and returns the tensor to feed and those to fetch.
        write: writes fetched values, by name, for a number of examples into a response's `result`.
    """

    name: str
    response: Callable[[], Any]
    result_field: str
    tensors: Callable[[meta_graph_pb2.SignatureDef], tuple[str, list[str]]]
    write: Callable[[meta_graph_pb2.SignatureDef, int, Mapping[str, Array], Any], None]

    def answer(self, core: ServerCore, request: Any, timeout: float | None = None) -> Any:
        """Answers a call.

        Raises:
            ServingError: what TF Serving answers.
        """
        return on_version(core, request, self.run, timeout)

    def run(self, servable: Servable, request: Any, timeout: float | None = None) -> Any:
        """Runs a call on a version; the `model_spec` of the response has no version.

        Raises:
            ServingError: what TF Serving answers.
        """
        left = time_left(timeout)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = servable.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"No signature was found with the name: {name}")
        feed, fetches = self.tensors(signature)
        examples = serialised_examples(request.input)
        values = servable.run({feed: examples}, fetches, left())
        response = self.response()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = name
        by_name = dict(zip(fetches, values, strict=True))
        self.write(signature, len(examples), by_name, response.result)
        return response


def signature_text(signature: meta_graph_pb2.SignatureDef) -> str:
    """A signature as protobuf's `DebugString` writes it, with the mark of text for people.

    Protobuf puts a random number of spaces behind the mark, so that nobody parses the text; here it
    is always one space.
    """
    return f"goo.gle/debugonly \n{signature}"


def shape_text(array: Array) -> str:
    """A shape as `TensorShape::DebugString` writes it."""
    return f"[{','.join(map(str, array.shape))}]"
