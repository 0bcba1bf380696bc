"""Protobuf messages as text, the form of the server's config files.

Source: `ParseProtoTextFile` in util/proto_util.h of tensorflow/serving.
"""

import pathlib
import re
from typing import Any, TypeVar

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message

from signatures.files import read_file

from .errors import invalid_argument, not_found

_PACKAGE = "tensorflow.serving"

MessageT = TypeVar("MessageT", bound=Message)


def read_text_proto(path: str | pathlib.Path, message: MessageT) -> MessageT:
    """Fills an empty message from a text file and returns it.

    Raises:
        ServingError: NOT_FOUND, the file does not exist; INVALID_ARGUMENT, it cannot be read or
            has another message. The error's text is one line.
    """
    try:
        text = read_file(path).decode()
    except FileNotFoundError:
        raise not_found(f"{path}; No such file or directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise invalid_argument(f"{path}: {error}") from error
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}': {error}") from error
    return message


def message_class(name: str, source: str) -> Any:
    """The class of a message of TF Serving that tensorflow-serving-api does not carry.

    It is made in its own descriptor pool, since other packages may register the real message.

    Args:
        name: name of the message.
        source: its definition, and those of the messages that it holds, as in a .proto file.
    """
    wrappers = wrappers_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto", package=_PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    for message, fields in re.findall(r"message (\w+) \{(.*?)\}", source, re.DOTALL):
        added = file.message_type.add(name=message)
        for label, kind, field, number in re.findall(r"(repeated )?(\S+) (\w+) = (\d+);", fields):
            _add_field(added, bool(label), kind, field, int(number))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _add_field(message: Any, repeated: bool, kind: str, name: str, number: int) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=types.LABEL_OPTIONAL)
    if repeated:
        field.label = types.LABEL_REPEATED
    if kind in ("bool", "int64", "string"):
        field.type = types.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = types.TYPE_MESSAGE
        field.type_name = f".{kind}" if "." in kind else f".{_PACKAGE}.{kind}"
