"""Stripping a SavedModel of attributes that no reader uses: a quarter of its graph's size."""

from collections.abc import Iterable
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

# A reader infers shapes again. The others serve only tracing: the order of side effects, and
# gradients of what XLA is not to compile.
_NODE_ATTRIBUTES = (
    "_output_shapes",
    "_has_manual_control_dependencies",
    "_XlaScope",
    "_XlaSeparateCompiledGradients",
)
# The names that arguments have in Python, and numbers for those without a name.
_ARGUMENT_ATTRIBUTES = ("_user_specified_name",)
# A function returns when all of its operations with an effect have run. Tracing lists these among
# them, though they have none: a third of the size of the whole model's functions, without nodes.
_WITHOUT_EFFECT = {"ReadVariableOp", "DisableCopyOnRead"}


def strip_attributes(proto: saved_model_pb2.SavedModel) -> None:
    """Removes what tracing notes of nodes, arguments and effects, and no reader uses.

    Args:
        proto: changed in place.
    """
    for meta_graph in proto.meta_graphs:
        _remove(_NODE_ATTRIBUTES, meta_graph.graph_def.node)
        for function in meta_graph.graph_def.library.function:
            _remove(_NODE_ATTRIBUTES, function.node_def)
            _remove(_ARGUMENT_ATTRIBUTES, function.arg_attr.values())
            _remove_effects(function)


def _remove(names: Iterable[str], holders: Iterable[Any]) -> None:
    for holder in holders:
        for name in names:
            if name in holder.attr:
                del holder.attr[name]


def _remove_effects(function: Any) -> None:
    harmless = {node.name for node in function.node_def if node.op in _WITHOUT_EFFECT}
    for output, node in list(function.control_ret.items()):
        if node in harmless:
            del function.control_ret[output]
    kept = [name for name in function.signature.control_output if name in function.control_ret]
    function.signature.control_output[:] = kept
