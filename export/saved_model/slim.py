"""Leaving out of a SavedModel what nobody reads: a quarter of its graph's size."""

from collections.abc import Iterable
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

# Shapes are inferred again when a graph is read. The others are for the tracing of a function: for
# the order of side effects, and for gradients of what XLA is not to compile.
_OF_NODES = (
    "_output_shapes",
    "_has_manual_control_dependencies",
    "_XlaScope",
    "_XlaSeparateCompiledGradients",
)
# Names that Python gave to arguments, and numbers where it gave none.
_OF_ARGUMENTS = ("_user_specified_name",)
# A function ends when all that has an effect has run. These have none, yet the tracing lists every
# one: a third of what the functions of the whole model hold beside their nodes.
_WITHOUT_EFFECT = {"ReadVariableOp", "DisableCopyOnRead"}


def slim(proto: saved_model_pb2.SavedModel) -> None:
    """Removes what is noted by the tracing, of nodes, arguments and effects, and has no meaning.

    Args:
        proto: is changed.
    """
    for meta_graph in proto.meta_graphs:
        _remove(_OF_NODES, meta_graph.graph_def.node)
        for function in meta_graph.graph_def.library.function:
            _remove(_OF_NODES, function.node_def)
            _remove(_OF_ARGUMENTS, function.arg_attr.values())
            _keep_effects(function)


def _remove(names: Iterable[str], holders: Iterable[Any]) -> None:
    for holder in holders:
        for name in names:
            if name in holder.attr:
                del holder.attr[name]


def _keep_effects(function: Any) -> None:
    without = {node.name for node in function.node_def if node.op in _WITHOUT_EFFECT}
    for output, node in list(function.control_ret.items()):
        if node in without:
            del function.control_ret[output]
    kept = [name for name in function.signature.control_output if name in function.control_ret]
    function.signature.control_output[:] = kept
