"""The mark of models with random (seeded) weights, which clients of a server can see.

A server's metadata has the names of the graph's tensors. Those of the inputs begin with the mark;
the names and shapes in the signatures stay those of the contract.
"""

from collections.abc import Mapping
from typing import Any

MARK = "untrained/"
"""Prefix of the graph's inputs where the weights are random (seeded)."""

WARNING = "not trained: the weights are random and the answers mean nothing"
"""What is shown beside answers of such a model."""


def mark_untrained(meta_graph: Any) -> None:
    """Marks a `MetaGraphDef`, in place."""
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
            # `name`, `name:1`, or `^name` for a control dependency.
            base = name.removeprefix("^")
            if base.partition(":")[0] in names:
                node.input[i] = f"{'^' if name != base else ''}{MARK}{base}"


def is_marked_untrained(signature_defs: Mapping[str, Any]) -> bool:
    """Whether a model is marked, by the signatures in its metadata."""
    return any(
        info.name.startswith(MARK)
        for signature in signature_defs.values()
        for info in signature.inputs.values()
    )
