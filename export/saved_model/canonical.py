"""Deterministic bytes: the same model becomes the same file.

TensorFlow numbers functions, and what they capture, with a counter of the process, and writes
functions in the order of a hash table. Here both get numbers by their place in the model, and the
fingerprint's random number is computed from the file's content.
"""

import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

_COUNT = re.compile(r"_\d+$")
_USER_NAME = "_user_specified_name"


def canonicalise(proto: saved_model_pb2.SavedModel) -> None:
    """Renames everything that TensorFlow numbered with a counter by its place in the model.

    Args:
        proto: changed in place. Only the numbers in the names of functions change, so that a
            profile still shows what they are.
    """
    for meta_graph in proto.meta_graphs:
        library = meta_graph.graph_def.library
        names = _new_names(meta_graph)
        for function in library.function:
            _rename_arguments(function, names[function.signature.name])
        _rename_functions(meta_graph, names)
        functions = sorted(library.function, key=lambda function: function.signature.name)
        copies = [type(function).FromString(function.SerializeToString()) for function in functions]
        del library.function[:]
        library.function.extend(copies)


def write_canonical(proto: saved_model_pb2.SavedModel, directory: pathlib.Path) -> None:
    """Writes `saved_model.pb`, and `fingerprint.pb` to go with it.

    Args:
        proto: a SavedModel after `canonicalise`.
        directory: where it goes; its variables are there already.
    """
    content = proto.SerializeToString(deterministic=True)
    (directory / "saved_model.pb").write_bytes(content)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(
        fingerprinting.CreateFingerprintDef(str(directory))
    )
    # Unique to the content, as a random number is; 128 bits in decimal, as TensorFlow's.
    fingerprint.uuid = str(int.from_bytes(hashlib.sha256(content).digest()[:16], "big"))
    (directory / "fingerprint.pb").write_bytes(fingerprint.SerializeToString(deterministic=True))


def _new_names(meta_graph: Any) -> dict[str, str]:
    """Old name -> new name, numbered in the order in which a walk from the graph reaches them."""
    library = {
        function.signature.name: function for function in meta_graph.graph_def.library.function
    }
    names: dict[str, str] = {}
    waiting = [*reversed(list(_roots(meta_graph)))]
    # Not recursive: functions call functions to any depth.
    while waiting:
        name = waiting.pop()
        if name in names or name not in library:
            continue
        # One counter for all, as TensorFlow has: the fingerprint tells functions apart by number.
        names[name] = f"{_COUNT.sub('', name)}_{len(names)}"
        waiting += reversed(list(_called(library[name].node_def)))
    missed = library.keys() - names.keys()
    if missed:
        raise ValueError(f"nothing in the SavedModel leads to the function {min(missed)}")
    return names


def _roots(meta_graph: Any) -> Iterator[str]:
    yield from _called(meta_graph.graph_def.node)
    for node in meta_graph.object_graph_def.nodes:
        yield from node.function.concrete_functions
        if node.HasField("bare_concrete_function"):
            yield node.bare_concrete_function.concrete_function_name


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        for key in sorted(node.attr):
            yield from (function.name for function in _function_values(node.attr[key]))


def _rename_functions(meta_graph: Any, names: dict[str, str]) -> None:
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    _rename_calls(graph.node, names)
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
        _rename_calls(function.node_def, names)
    for gradient in graph.library.gradient:
        gradient.function_name = names[gradient.function_name]
        gradient.gradient_func = names[gradient.gradient_func]
    for node in objects.nodes:
        if node.HasField("function"):
            renamed = [names[name] for name in node.function.concrete_functions]
            node.function.concrete_functions[:] = renamed
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = names[bare.concrete_function_name]
    _rename_keys(objects.concrete_functions, names.__getitem__)
    _rename_keys(meta_graph.meta_info_def.function_aliases, lambda name: names.get(name, name))


def _rename_calls(nodes: Iterable[Any], names: dict[str, str]) -> None:
    for node in nodes:
        # An op may be the name of a function, which it calls.
        node.op = names.get(node.op, node.op)
        for value in node.attr.values():
            for function in _function_values(value):
                function.name = names.get(function.name, function.name)


def _function_values(value: Any) -> Iterable[Any]:
    """The functions that an attribute names."""
    return (value.func,) if value.HasField("func") else value.list.func


def _rename_keys(mapping: Any, new_name: Callable[[str], str]) -> None:
    """Renames the keys of a protobuf map, whose values may be messages."""
    old = {key: mapping[key] for key in mapping}
    copies = {
        new_name(key): value
        if isinstance(value, str)
        else type(value).FromString(value.SerializeToString())
        for key, value in old.items()
    }
    mapping.clear()
    for key, value in copies.items():
        if isinstance(value, str):
            mapping[key] = value
        else:
            mapping[key].CopyFrom(value)


def _rename_arguments(function: Any, new_name: str) -> None:
    """Renames arguments with a counter's number in their name, by their place or `new_name`.

    A captured tensor has the number as its user-specified name, at the end of the argument's name,
    and in the colocations (`_class`) of nodes. An unused argument of a loop's function has the
    whole name of the function in its own.
    """
    captures = _rename_captures(function)
    old_name = function.signature.name
    arguments: dict[str, str] = {}
    for argument in function.signature.input_arg:
        name = argument.name.replace(old_name, new_name)
        name = _replace_number(name, "_", captures)
        if name != argument.name:
            arguments[argument.name] = name
            argument.name = name
    for node in function.node_def if arguments else ():
        # An argument is never a control input, and has one output only.
        node.input[:] = [arguments.get(name, name) for name in node.input]
        if "_class" in node.attr:
            colocations = node.attr["_class"].list.s
            colocations[:] = [
                _replace_number(c.decode(), "/", captures).encode() for c in colocations
            ]


def _rename_captures(function: Any) -> dict[str, str]:
    """Renames the captured tensors of a function by their places: old number -> new name."""
    captures: dict[str, str] = {}
    for place, attributes in function.arg_attr.items():
        name = attributes.attr[_USER_NAME].s.decode() if _USER_NAME in attributes.attr else ""
        if name.isdecimal():
            captures[name] = f"capture_{place}"
            attributes.attr[_USER_NAME].s = captures[name].encode()
    return captures


def _replace_number(name: str, separator: str, captures: dict[str, str]) -> str:
    """Replaces a capture's number at the end of a name by its new name."""
    base, _, number = name.rpartition(separator)
    return f"{base}{separator}{captures[number]}" if number in captures else name
