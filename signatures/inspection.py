"""Compares the signatures of a SavedModel with the contract."""

from collections.abc import Iterable, Iterator, Mapping

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from .contract import Head, TensorContract, signatures_for
from .geometry import Geometry

# The SavedModel writer adds this entry to the signatures.
_INITIALIZER = "__saved_model_init_op"


def contract_problems(
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef], head: Head, geometry: Geometry
) -> list[str]:
    """Differences between a meta graph's signatures and the contract.

    Args:
        signature_defs: `signature_def` of the meta graph in `saved_model.pb`.
        head: the model's head.
        geometry: the model's sizes.

    Returns:
        A line for each difference in names, dtypes, shapes and methods.
    """
    expected = signatures_for(head, geometry)
    found = set(signature_defs) - {_INITIALIZER}
    problems = [f"{name}: missing" for name in expected if name not in found]
    problems += [f"{name}: not in the contract" for name in sorted(found - set(expected))]
    for name, signature in expected.items():
        if name not in found:
            continue
        definition = signature_defs[name]
        if definition.method_name != signature.method:
            problems.append(f"{name}: method {definition.method_name}; expected {signature.method}")
        for kind, tensors, infos in (
            ("input", signature.inputs, definition.inputs),
            ("output", signature.outputs, definition.outputs),
        ):
            problems += [f"{name}: {kind} {text}" for text in _differ(tensors, infos, geometry)]
    return problems


def _differ(
    tensors: Iterable[TensorContract],
    infos: Mapping[str, meta_graph_pb2.TensorInfo],
    geometry: Geometry,
) -> Iterator[str]:
    expected = {
        tensor.name: _describe(tensor.dtype, tensor.resolve(geometry)) for tensor in tensors
    }
    found = {
        name: _describe(
            tf.as_dtype(info.dtype).name,
            tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            yield f"{name}: {found.get(name, 'missing')}; expected {expected.get(name, 'none')}"


def _describe(dtype: str, shape: tuple[int | None, ...]) -> str:
    return f"{dtype} ({', '.join('B' if size is None else str(size) for size in shape)})"
