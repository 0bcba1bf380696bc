"""Leaving out of a SavedModel what nobody reads: a fifth of its graph's size."""

from collections.abc import Iterable
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

# Shapes are inferred again when a graph is read; the other is for the order of side effects within
# a function while it is traced.
_OF_NODES = ("_output_shapes", "_has_manual_control_dependencies")
# Names that Python gave to arguments, and numbers where it gave none.
_OF_ARGUMENTS = ("_user_specified_name",)


def slim(proto: saved_model_pb2.SavedModel) -> None:
    """Removes attributes of nodes and of functions' arguments that are notes of the tracing.

    Args:
        proto: is changed.
    """
    for meta_graph in proto.meta_graphs:
        _remove(_OF_NODES, meta_graph.graph_def.node)
        for function in meta_graph.graph_def.library.function:
            _remove(_OF_NODES, function.node_def)
            _remove(_OF_ARGUMENTS, function.arg_attr.values())


def _remove(names: Iterable[str], holders: Iterable[Any]) -> None:
    for holder in holders:
        for name in names:
            if name in holder.attr:
                del holder.attr[name]
