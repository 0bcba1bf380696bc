"""Reading a protobuf message from a text file, which is how the server's configs are written.

Source: `ParseProtoTextFile` in util/proto_util.h of tensorflow/serving.
"""

import pathlib
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from .errors import invalid_argument, not_found

MessageT = TypeVar("MessageT", bound=Message)


def read_text_proto(path: str | pathlib.Path, message: MessageT) -> MessageT:
    """Fills an empty message from a text file.

    Returns:
        The message.

    Raises:
        ServingError: NOT_FOUND, there is no such file; INVALID_ARGUMENT, it cannot be read or is
            not this message. The message of the error is one line.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise not_found(f"{path}; No such file or directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise invalid_argument(f"{path}: {error}") from error
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}': {error}") from error
    return message
