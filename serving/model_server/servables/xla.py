"""Which tensors of a graph need compilation by XLA.

TF Serving contains XLA but switches it off, so a function with `jit_compile` fails when it is run.
In Python it works. So such functions are searched for in the graph, to fail here too.
"""

from collections.abc import Callable, Iterator

from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

_ATTRIBUTE = "_XlaMustCompile"


def must_compile(graph: graph_pb2.GraphDef) -> Callable[[str], bool]:
    """A function that says whether computing a tensor (`name:0`) calls one with `jit_compile`.

    Args:
        graph: the graph with its library of functions; only names of it are kept.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    compiled = _compiled_functions(functions)
    inputs = {node.name: [_node(name) for name in node.input] for node in graph.node}
    compiling = {
        node.name
        for node in graph.node
        if _marked(node) or any(name in compiled for name in _called(node))
    }

    def reaches(tensor: str) -> bool:
        seen, left = set(), [_node(tensor)]
        while left:
            name = left.pop()
            if name in compiling:
                return True
            if name not in seen:
                seen.add(name)
                left += inputs.get(name, ())
        return False

    # Most models have no such function, and the graph need not be walked.
    return reaches if compiling else lambda tensor: False


def _compiled_functions(functions: dict[str, function_pb2.FunctionDef]) -> set[str]:
    """The functions with `jit_compile`, and those that call them."""
    calls = {
        name: {callee for node in function.node_def for callee in _called(node)}
        for name, function in functions.items()
    }
    found = {
        name
        for name, function in functions.items()
        if _marked(function) or any(_marked(node) for node in function.node_def)
    }
    while more := {name for name in calls.keys() - found if calls[name] & found}:
        found |= more
    return found


def _marked(definition: function_pb2.FunctionDef | node_def_pb2.NodeDef) -> bool:
    # Indexing a map of messages with a missing key would add the key.
    return _ATTRIBUTE in definition.attr and bool(definition.attr[_ATTRIBUTE].b)


def _called(node: node_def_pb2.NodeDef) -> Iterator[str]:
    """The functions that a node calls, or has as a body or a branch."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


def _node(tensor: str) -> str:
    """The node of an input that is written as `name`, `name:1` or `^name`."""
    return tensor.removeprefix("^").partition(":")[0]
