"""The JSON of a request: read as the real server reads it, and shown as its messages show it.

Source: `ParseJson` and `JsonValueToString` in util/json_tensor.cc of tensorflow/serving, and the
messages of RapidJSON, which it reads with.
"""

import json
import re
from typing import Any

from .errors import MESSAGE_LIMIT, ServingError, invalid_argument

Document = dict[str, Any]

_BYTE_ORDER_MARK = "\ufeff"
# What Python's parser says -> what RapidJSON says.
_MESSAGES = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_TYPES = {int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}


def parse_document(body: bytes) -> Document:
    """The object that a body is. `NaN`, `Infinity` and `-Infinity` are numbers in it.

    Of a key that comes twice, the first counts. Bytes of a string that are no UTF-8 are kept, as
    lone surrogates (`to_bytes` makes them bytes again).

    Raises:
        ServingError: INVALID_ARGUMENT, it is no JSON, or not an object.
        RecursionError: it is nested too deeply.
    """
    text = body.decode("utf-8", "surrogateescape").removeprefix(_BYTE_ORDER_MARK)
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json.loads(text, object_pairs_hook=_first_of_each)
    except json.JSONDecodeError as error:
        raise _parse_error(text, error) from None
    except ValueError:
        # Of an integer with thousands of digits.
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from None
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def to_bytes(text: str) -> bytes:
    """The bytes of a string of a document.

    Raises:
        ServingError: INVALID_ARGUMENT, it has half of a surrogate pair, as an escape.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid_argument(
            "JSON Parse error: The surrogate pair in string is invalid."
        ) from None


def type_name(value: object) -> str:
    """As RapidJSON calls the type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return _TYPES[type(value)]


def shown(value: object) -> str:
    """A value as it stands in messages, cut to what a message can hold."""
    parts, length = [], 0
    for part in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        parts.append(part)
        length += len(part)
        if length > MESSAGE_LIMIT:
            break
    return "".join(parts)[: MESSAGE_LIMIT + 1]


def format_error(value: object, message: str) -> ServingError:
    """The error for a value that is not what it should be."""
    return invalid_argument(f"JSON Value: {shown(value)} {message}")


def _first_of_each(pairs: list[tuple[str, Any]]) -> Document:
    members = dict(pairs)
    if len(members) < len(pairs):
        members.update(reversed(pairs))
    return members


def _parse_error(text: str, error: json.JSONDecodeError) -> ServingError:
    before = text[: error.pos]
    if not text.strip():
        message = "The document is empty."
    elif error.msg == "Expecting ',' delimiter":
        message = (
            "Missing a comma or } after an object member."
            if _innermost(before) == "{"
            else "Missing a comma or ] after an array element."
        )
    else:
        message = _MESSAGES.get(error.msg, f"{error.msg}.")
    offset = len(before.encode("utf-8", "surrogateescape"))
    return invalid_argument(f"JSON Parse error: {message} at offset: {offset}")


def _innermost(text: str) -> str:
    """The last bracket that is open at the end of a text, which is no value yet."""
    stack = []
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            stack.append(match[0])
        elif match[0] in "]}" and stack:
            stack.pop()
    return stack[-1] if stack else ""
