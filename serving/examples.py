"""What Classify, Regress and MultiInference share: lists of `tf.Example`, and naming what is wrong.

Source: `util.cc` of tensorflow/serving's servables.
"""

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2

from .errors import invalid_argument
from .servable import Servable
from .tensors import Array

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


def named_signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    """The signature that a call names.

    Raises:
        ServingError: INVALID_ARGUMENT, if there is none.
    """
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return signature


def shape_text(array: Array) -> str:
    """As `TensorShape::DebugString` writes it."""
    return f"[{','.join(map(str, array.shape))}]"
