"""The JSON of a request, read as the real server reads it and quoted as its messages quote it.

The message for a body that is not JSON is Python's own.

Source: `ParseJson` and `JsonValueToDebugString` in util/json_tensor.cc of tensorflow/serving.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from ...errors import MESSAGE_LIMIT, ServingError, invalid_argument

Document = dict[str, Any]

_BYTE_ORDER_MARK = "\ufeff"
_WHITE_SPACE = " \t\n\r"
_INDENT = "    "
# A value in a message ends after so many characters.
_SHOWN = 256
_TYPES = {int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}


def parse_document(body: bytes) -> Document:
    """The object at the beginning of a body. `NaN`, `Infinity` and `-Infinity` are numbers.

    Text after the object is ignored. The first of two equal keys counts. Bytes of a string that are
    not UTF-8 become lone surrogates, which `to_bytes` turns back into bytes.

    Raises:
        ServingError: INVALID_ARGUMENT, the body is not JSON or not an object.
        RecursionError: the object is nested too deeply.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape").removeprefix(_BYTE_ORDER_MARK)
    start = len(text) - len(text.lstrip(_WHITE_SPACE))
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from None
    except ValueError:
        # An integer has thousands of digits.
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from None
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def to_bytes(text: str) -> bytes:
    """The bytes of a string of a document.

    Raises:
        ServingError: INVALID_ARGUMENT, the string has an escaped half of a surrogate pair.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid_argument(
            "JSON Parse error: The surrogate pair in string is invalid."
        ) from None


def type_name(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return _TYPES[type(value)]


def shown(value: object) -> str:
    """A value as messages quote it: objects on several lines, lists on one, cut when long.

    A single long string is cut too; the real server shows all of it.
    """
    parts, length = [], 0
    for part in _parts(value, 0):
        parts.append(part)
        length += len(part)
        if length >= _SHOWN:
            break
    return "".join(parts)[:MESSAGE_LIMIT]


def format_error(value: object, message: str) -> ServingError:
    """The error for a value of a wrong form."""
    return invalid_argument(f"JSON Value: {shown(value)} {message}")


def _first_of_each(pairs: list[tuple[str, Any]]) -> Document:
    members = dict(pairs)
    if len(members) < len(pairs):
        members.update(reversed(pairs))
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_each)


def _parts(value: object, level: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        inner = "\n" + _INDENT * (level + 1)
        for start, (name, member) in zip(
            itertools.chain("{", itertools.repeat(",")), value.items(), strict=False
        ):
            yield f"{start}{inner}{_scalar(name)}"
            yield ": "
            yield from _parts(member, level + 1)
        yield "\n" + _INDENT * level + "}"
    elif isinstance(value, list) and value:
        for start, item in zip(itertools.chain("[", itertools.repeat(", ")), value, strict=False):
            yield start
            yield from _parts(item, level + 1)
        yield "]"
    else:
        yield _scalar(value)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
