"""The mark of models whose weights were not trained, where clients of a server can see it.

A server tells the names of the graph's tensors with the signatures: those of the inputs begin with
the mark. Names and shapes of the signatures' own inputs and outputs stay those of the contract.
"""

from collections.abc import Mapping
from typing import Any

MARK = "untrained/"
"""How the names of the graph's inputs begin, where the weights were made by rule."""


def mark_untrained(meta_graph: Any) -> None:
    """Marks a meta graph.

    Args:
        meta_graph: a `MetaGraphDef`; is changed.
    """
    names = {
        info.name.partition(":")[0]
        for signature in meta_graph.signature_def.values()
        for info in signature.inputs.values()
    }
    for signature in meta_graph.signature_def.values():
        for info in signature.inputs.values():
            info.name = MARK + info.name
    for node in meta_graph.graph_def.node:
        if node.name in names:
            node.name = MARK + node.name
        for i, name in enumerate(node.input):
            # `name`, `name:1`, or `^name` for order alone.
            base = name.removeprefix("^")
            if base.partition(":")[0] in names:
                node.input[i] = f"{'^' if name != base else ''}{MARK}{base}"


def is_marked_untrained(signature_defs: Mapping[str, Any]) -> bool:
    """Whether the model of these signatures, as a server tells them, is marked."""
    return any(
        info.name.startswith(MARK)
        for signature in signature_defs.values()
        for info in signature.inputs.values()
    )
