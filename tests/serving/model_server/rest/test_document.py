"""How a document is read where it is not plain, and how values are shown in messages."""

import pytest

from serving.errors import ServingError
from serving.model_server.rest.document import parse_document, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ("é\n", '"é\\n"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2.5, True]], "[1, [2.5, true]]"),
        (
            {"a": [1, {"b": []}], "c": {}},
            '{\n    "a": [1, {\n            "b": []\n        }],\n    "c": {}\n}',
        ),
    ],
)
def test_values_are_shown_as_the_real_server_shows_them(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", [list(range(10**6)), {str(i): [i] for i in range(10**5)}])
def test_long_values_are_broken_off(value: object) -> None:
    assert 256 <= len(shown(value)) < 300


def test_the_first_of_two_members_of_a_name_counts() -> None:
    assert parse_document(b'{"a": 1, "b": {"c": 2, "c": 3}, "a": 4}') == {"a": 1, "b": {"c": 2}}


@pytest.mark.parametrize("body", [b'{"a": 1}{"a": 2}', b'\t{"a": 1} and so on', b'{"a": 1}\xff'])
def test_the_document_ends_with_its_object(body: bytes) -> None:
    assert parse_document(body) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"nul", b'{"a": 01}', b"\xa0{}"])
def test_what_is_no_json_says_so_in_a_line(body: bytes) -> None:
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: JSON Parse error: [^\n]+$"):
        parse_document(body)
