"""SavedModels that are the same bytes when they are the same model.

TensorFlow numbers functions, and what they capture, by a count that goes on within a process, and
writes functions in the order of a hash table. Here both are numbered anew by where they stand in
the model, and the fingerprint's random number is taken from the file's content.
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
    """Gives everything in a SavedModel that TensorFlow numbered by a count a name of its own place.

    Args:
        proto: is changed. Its functions keep their names without the numbers, so that what they
            are can still be read in a profile.
    """
    for meta_graph in proto.meta_graphs:
        library = meta_graph.graph_def.library
        names = _new_names(meta_graph)
        for function in library.function:
            _rename_arguments(function, names[function.signature.name])
        _rename(meta_graph, names)
        functions = sorted(library.function, key=lambda function: function.signature.name)
        copies = [type(function).FromString(function.SerializeToString()) for function in functions]
        del library.function[:]
        library.function.extend(copies)


def write_canonical(proto: saved_model_pb2.SavedModel, directory: pathlib.Path) -> None:
    """Writes `saved_model.pb`, and `fingerprint.pb` to go with it.

    Args:
        proto: what `canonicalise` was given.
        directory: a SavedModel whose variables are written already.
    """
    content = proto.SerializeToString(deterministic=True)
    (directory / "saved_model.pb").write_bytes(content)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(
        fingerprinting.CreateFingerprintDef(str(directory))
    )
    # Unique to what was written, as a random one is; 128 bits in decimal, as TensorFlow's.
    fingerprint.uuid = str(int.from_bytes(hashlib.sha256(content).digest()[:16], "big"))
    (directory / "fingerprint.pb").write_bytes(fingerprint.SerializeToString(deterministic=True))


def _new_names(meta_graph: Any) -> dict[str, str]:
    """Old name -> new name, numbered by the order in which a walk from the graph comes to them."""
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
        # One count for all, as TensorFlow's: the fingerprint tells functions apart by the number.
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
            value = node.attr[key]
            if value.HasField("func"):
                yield value.func.name
            yield from (function.name for function in value.list.func)


def _rename(meta_graph: Any, names: dict[str, str]) -> None:
    def rename_nodes(nodes: Iterable[Any]) -> None:
        for node in nodes:
            # A function may be called by its name as an op.
            node.op = names.get(node.op, node.op)
            for value in node.attr.values():
                for function in (value.func, *value.list.func) if _has_function(value) else ():
                    function.name = names.get(function.name, function.name)

    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    rename_nodes(graph.node)
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
        rename_nodes(function.node_def)
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


def _has_function(value: Any) -> bool:
    return bool(value.HasField("func") or value.list.func)


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
    """Names what TensorFlow named by a number of a count after its place, or after `new_name`.

    A captured tensor's number is the whole of what the user is said to have called it, and the end
    of the argument's name and of the place that nodes are held to. What a loop's function takes
    but does not use has the function's whole name in its own.
    """
    numbers: dict[str, str] = {}
    for place, attributes in function.arg_attr.items():
        name = attributes.attr[_USER_NAME].s.decode() if _USER_NAME in attributes.attr else ""
        if name.isdecimal():
            numbers[name] = f"capture_{place}"
            attributes.attr[_USER_NAME].s = numbers[name].encode()
    old_name = function.signature.name
    arguments: dict[str, str] = {}
    for argument in function.signature.input_arg:
        name = argument.name.replace(old_name, new_name)
        base, _, number = name.rpartition("_")
        if number in numbers:
            name = f"{base}_{numbers[number]}"
        if name != argument.name:
            arguments[argument.name] = name
            argument.name = name
    for node in function.node_def if arguments else ():
        for i, name in enumerate(node.input):
            # Nothing depends on an argument by control, and one has no outputs to choose from.
            if name in arguments:
                node.input[i] = arguments[name]
        for i, held in enumerate(node.attr["_class"].list.s if "_class" in node.attr else ()):
            base, _, number = held.decode().rpartition("/")
            if number in numbers:
                node.attr["_class"].list.s[i] = f"{base}/{numbers[number]}".encode()
