"""What Classify, Regress and MultiInference share: lists of `tf.Example`, and naming what is wrong.

Source: `util.cc` of tensorflow/serving's servables.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2

from ...errors import invalid_argument
from ...tensors import Array
from ..servables.servable import DEFAULT_SIGNATURE, Servable

INPUTS = "inputs"
"""The alias of the one input of these signatures."""


def serialised_examples(message: input_pb2.Input) -> Array:
    """The examples of an input, serialised, as an object array of shape (B,).

    A context goes before each example: the bytes of two messages in a row are the two merged.

    Raises:
        ServingError: INVALID_ARGUMENT, if there are none.
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


def run_on_examples(
    servable: Servable,
    request: Any,
    tensors: Callable[[meta_graph_pb2.SignatureDef], tuple[str, list[str]]],
    write: Callable[[meta_graph_pb2.SignatureDef, int, Mapping[str, Array], Any], None],
    response: Any,
    timeout: float | None,
) -> None:
    """Runs a Classify or a Regress call and writes its response, the version aside.

    Args:
        servable: the version to run on.
        request: the call's.
        tensors: checks a signature; the tensor to feed and those to fetch.
        write: writes what was fetched for so many examples into the response's `result`.
        response: empty.
        timeout: seconds left; None is no limit.

    Raises:
        ServingError: what TF Serving answers.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    feed, fetches = tensors(signature)
    examples = serialised_examples(request.input)
    values = servable.run({feed: examples}, fetches, timeout)
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = name
    by_name = dict(zip(fetches, values, strict=True))
    write(signature, len(examples), by_name, response.result)


def signature_text(signature: meta_graph_pb2.SignatureDef) -> str:
    """A signature as `DebugString` of protobuf writes it, with the mark of text for people.

    Behind the mark are one to some spaces, as many as a process has drawn by lot, so that nobody
    parses the text; here it is one.
    """
    return f"goo.gle/debugonly \n{signature}"


def shape_text(array: Array) -> str:
    """As `TensorShape::DebugString` writes it."""
    return f"[{','.join(map(str, array.shape))}]"
