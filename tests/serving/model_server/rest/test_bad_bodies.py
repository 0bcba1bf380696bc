"""What no client should send over HTTP: the right status, and the next request is answered."""

import base64
import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.model_server import Running
from tests.support.requests import claimed, images, jpeg
from tests.support.rest_calls import call, post, refused

PREDICT = "/v1/models/tf1:predict"
CAIT = "/v1/models/cait:predict"


@pytest.fixture(autouse=True)
def _still_answers(served: Running) -> Iterator[None]:
    yield
    assert post(served.rest_port, PREDICT, {"instances": [2.0]}) == {"predictions": [3.0]}
    body = {"signature_name": "logits", "instances": images(1).tolist()}
    assert np.shape(post(served.rest_port, CAIT, body)["predictions"]) == (1, 10)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The document is empty"),
        ("   ", "Expecting value: line 1 column 4 (char 3)"),
        ('{"instances": [1}', "Expecting ',' delimiter: line 1 column 17 (char 16)"),
        ('{\n"instances": [x]}', "Expecting value: line 2 column 15 (char 16)"),
        ('{"a": "b', "Unterminated string starting at: line 1 column 7 (char 6)"),
    ],
)
def test_what_is_no_json(served: Running, body: str, message: str) -> None:
    # The words are our own: a server with another JSON library has others.
    assert served.server
    refused(call(served.rest_port, "POST", PREDICT, body), 400, f"JSON Parse error: {message}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[" * 100_000, "JSON Parse error: The document is nested too deeply."),
        (f'{{"inputs": {"[" * 40}1{"]" * 40}}}', "A list is nested deeper than 32 levels"),
        (
            f'{{"inputs": [{"9" * 400}]}}',
            "JSON Parse error: Number too big to be stored in double.",
        ),
        (
            f'{{"inputs": [{"9" * 5000}]}}',
            "JSON Parse error: Number too big to be stored in double.",
        ),
    ],
)
def test_limits_that_are_not_those_of_the_real_server(
    served: Running, body: str, message: str
) -> None:
    assert served.server
    refused(call(served.rest_port, "POST", PREDICT, body), 400, message)


@pytest.mark.parametrize("body", [b"\xff\xfe\0", b"\0" * 100, b"\x89PNG"])
def test_what_is_no_text(served: Running, body: bytes) -> None:
    reply = call(served.rest_port, "POST", PREDICT, body)
    assert reply.status == 400
    assert reply.json["error"].startswith("JSON Parse error: ")


def test_what_comes_after_the_document_is_not_looked_at(served: Running) -> None:
    body = b'\n {"instances": [2.0]} {"instances": '
    assert post(served.rest_port, PREDICT, body) == {"predictions": [3.0]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[1, [2]]", "JSON Value: [1, [2]] Is not object"),
        ("null", "JSON Value: null Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"instances": [], "inputs": []}',
            'JSON Value: {\n    "instances": [],\n    "inputs": []\n} Not formatted correctly '
            "expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"instances": 1}',
            "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
        ),
        (
            '{"instances": []}',
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            '{"signature_name": 1, "instances": [1]}',
            'JSON Value: {\n    "signature_name": 1,\n    "instances": [1]\n} not formatted '
            "correctly. 'signature_name' key must be a string value.",
        ),
        (
            '{"instances": [1, [2]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [] but got: [1]",
        ),
        (
            '{"instances": [[1, 2], [1]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 1",
        ),
        (
            '{"inputs": [[1, 2], [1]]}',
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            '{"inputs": [[1, 2], 3]}',
            "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": {"y": [1]}}', "Missing named input: x in 'inputs' object."),
        (
            '{"instances": [1.0, "2"]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "2" Type: String is not of expected type: float',
        ),
        (
            '{"instances": [true]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: true Type: True is not of expected type: float",
        ),
        ('{"inputs": [null]}', "JSON Value: null Type: Null is not of expected type: float"),
        (
            '{"instances": [{"y": 1}]}',
            "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: y",
        ),
        (
            '{"instances": [{"x": 1}, {}]}',
            "Failed to process element: 1 of 'instances' list. JSON object: {} keys must be equal "
            "to: x",
        ),
        ('{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [2, {"x": 1}]}',
            "Expecting value/list but got object at item 1 of input list",
        ),
    ],
)
def test_documents_that_do_not_fit(served: Running, body: str, message: str) -> None:
    refused(call(served.rest_port, "POST", PREDICT, body), 400, message)


def test_a_plain_list_for_several_inputs(served: Running) -> None:
    body = {"signature_name": "slow", "instances": [1.0]}
    refused(
        call(served.rest_port, "POST", "/v1/models/tf2:predict", body),
        400,
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map",
    )


def test_integers_have_bounds(served: Running) -> None:
    row: dict[str, Any] = {"images": images(1)[0].tolist(), "block": 0.5}
    for block, shown in ((0.5, "0.5"), (2**31, "2147483648")):
        body = {"signature_name": "self_attention", "instances": [{**row, "block": block}]}
        refused(
            call(served.rest_port, "POST", CAIT, body),
            400,
            "Failed to process element: 0 key: block of 'instances' list. Error: "
            f"INVALID_ARGUMENT: JSON Value: {shown} Type: Number is not of expected type: int32",
        )
    body = {"signature_name": "self_attention", "instances": [{**row, "block": -1}]}
    reply = call(served.rest_port, "POST", CAIT, body)
    assert reply.status == 400
    assert "block must be 0 to 1" in reply.json["error"]


@pytest.mark.parametrize("text", ["?", "A", "AAAA=A"])
def test_what_is_no_base64(served: Running, text: str) -> None:
    body = {"signature_name": "bytes_logits", "inputs": [{"b64": text}]}
    refused(call(served.rest_port, "POST", CAIT, body), 400, "Unable to base64 decode")


def test_half_of_a_surrogate_pair(served: Running) -> None:
    body = '{"signature_name": "bytes_logits", "inputs": ["\\ud800"]}'
    reply = call(served.rest_port, "POST", CAIT, body)
    refused(reply, 400, "JSON Parse error: The surrogate pair in string is invalid.")
    reply = call(served.rest_port, "POST", PREDICT, '{"inputs": "\\ud800"}')
    message = 'JSON Value: "?" Type: String is not of expected type: float'
    refused(reply, 400, message)


def bytes_logits(served: Running, *encoded: bytes) -> Any:
    rows = [{"b64": base64.b64encode(data).decode()} for data in encoded]
    body = {"signature_name": "bytes_logits", "instances": rows}
    return call(served.rest_port, "POST", CAIT, body)


def test_an_undecodable_image_among_good_ones(served: Running) -> None:
    reply = bytes_logits(served, jpeg(), b"no image", jpeg())
    assert reply.status == 400
    assert "Unknown image file format" in reply.json["error"]
    assert len(bytes_logits(served, jpeg(), jpeg()).json["predictions"]) == 2


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_header_that_claims_too_much(served: Running, kind: str) -> None:
    reply = bytes_logits(served, jpeg(), claimed(kind))
    assert reply.status == 400
    assert "pixels" in reply.json["error"]


def test_a_hundred_megabytes(served: Running) -> None:
    body = b'{"signature_name": "bytes_logits", "inputs": ["' + b"x" * 100_000_000 + b'"]}'
    reply = call(served.rest_port, "POST", CAIT, body)
    assert reply.status == 400
    assert "Unknown image file format" in reply.json["error"]


def test_a_message_that_would_be_of_a_hundred_megabytes(served: Running) -> None:
    assert served.server
    body = b'{"inputs": ["' + b"x" * 100_000_000 + b'"]}'
    reply = call(served.rest_port, "POST", PREDICT, body)
    assert reply.status == 400
    assert reply.json["error"].endswith("xxx Type: String is not of expected type: float")
    assert len(reply.text) < 2000


def test_not_a_number_in_is_not_a_number_out(served: Running) -> None:
    batch = images(2)
    batch[0] = np.nan
    body = {"signature_name": "logits", "instances": batch.tolist()}
    logits = np.array(post(served.rest_port, CAIT, body)["predictions"])
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()


def test_a_wrong_size_of_images(served: Running) -> None:
    body = {"signature_name": "logits", "instances": images(1, 16).tolist()}
    reply = call(served.rest_port, "POST", CAIT, body)
    assert reply.status == 400
    assert "[1,16,16,3]" in reply.json["error"]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({}, "'examples' value to be an list/array"),
        ([], "'examples' value is an empty array"),
        ([1], "Example must be JSON object but got JSON Number"),
        ([{"x": None}], "Feature: x has element with unexpected JSON type: Null"),
        ([{"x": [[1]]}], "Feature: x has element with unexpected JSON type: Array"),
        ([{"x": {"y": 1}}], "Feature: x has element with unexpected JSON type: Object"),
        ([{"x": [1, 1.5]}], "Unexpected element type in feature: x expecting type: int64"),
        ([{"x": ["a", 1]}], "Unexpected element type in feature: x expecting type: bytes"),
        ([{"x": 2**63}], "Feature: x has uint64_t element. Only int64_t is supported."),
    ],
)
@pytest.mark.parametrize("what", ["classify", "regress"])
def test_examples_that_do_not_fit(served: Running, what: str, examples: Any, message: str) -> None:
    body = {"signature_name": what, "examples": examples}
    reply = call(served.rest_port, "POST", f"/v1/models/tf1:{what}", body)
    assert reply.status == 400
    assert reply.json["error"].endswith(message)


def test_no_examples(served: Running) -> None:
    reply = call(served.rest_port, "POST", "/v1/models/tf1:regress", {})
    refused(
        reply,
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    )


def test_compressed_bodies(served: Running) -> None:
    headers = {"Content-Encoding": "gzip"}
    good = gzip.compress(json.dumps({"instances": [2.0]}).encode())
    assert post(served.rest_port, PREDICT, good, headers=headers) == {"predictions": [3.0]}


def test_compressed_bodies_that_are_none(served: Running) -> None:
    assert served.server
    headers = {"Content-Encoding": "gzip"}
    good = gzip.compress(json.dumps({"instances": [2.0]}).encode())
    bomb = gzip.compress(b"[" * (101 * 1024 * 1024))
    for body in (b"no gzip", good[:-9], bomb):
        refused(
            call(served.rest_port, "POST", PREDICT, body, headers),
            400,
            "Failed to uncompress the gzipped body, which may be of 104857600 bytes at most",
        )


def test_clients_that_do_not_finish(served: Running) -> None:
    for start in (
        b"POST /v1/models/tf1:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"no http at all\r\n\r\n",
        b"POST /v1/models/tf1:pre",
    ):
        with socket.create_connection(("127.0.0.1", served.rest_port), 10) as client:
            client.sendall(start)
