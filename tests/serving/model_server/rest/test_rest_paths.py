"""Paths and methods of HTTP that no call of the API has, or that stand for none."""

import pytest

from tests.support.model_server import Running
from tests.support.rest_calls import call, refused

PREDICT = "/v1/models/tf1:predict"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PREDICT),
        ("POST", "/v1/models/tf1"),
        ("POST", "/v1/models/tf1:forget"),
        ("POST", "/v1/models/tf1:PREDICT"),
        ("POST", "/v1/models/tf1/versions/x:predict"),
        ("POST", "/v1/models/tf1/versions/1/labels/stable:predict"),
        ("POST", f"{PREDICT}?x=1"),
        ("PUT", PREDICT),
        ("DELETE", "/v1/models/tf1"),
        ("GET", "/v1/"),
        ("GET", "/v1/models/tf1/"),
        ("GET", "/v1/models/tf1/versions/-1"),
        ("GET", "/v1/models/tf1/metadata/"),
        ("GET", "/v1/../../etc/passwd"),
    ],
)
def test_unknown_paths_and_methods(served: Running, method: str, path: str) -> None:
    reply = call(served.rest_port, method, path, {"instances": [2.0]})
    refused(reply, 400, f"Malformed request: {method} {path}")


@pytest.mark.parametrize("path", ["/v1/models/tf1", "/v1/models/tf1:predict", "/v1/"])
@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 400), ("null", 400), ("https://example.org", 200), ("http://localhost:8000", 200)],
)
def test_a_browser_asks_what_it_may(
    served: Running, path: str, origin: str | None, status: int
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    reply = call(served.rest_port, "OPTIONS", path, headers=headers)
    assert (reply.status, reply.text) == (status, "")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize("end", [":predict", ":classify", "", "/metadata"])
@pytest.mark.parametrize("version", ["9223372036854775808", "9" * 5000])
def test_a_version_that_is_no_number_of_64_bits(served: Running, version: str, end: str) -> None:
    method = "POST" if end.startswith(":") else "GET"
    reply = call(served.rest_port, method, f"/v1/models/tf1/versions/{version}{end}")
    assert (reply.status, reply.text) == (400, "")


@pytest.mark.parametrize("path", ["/", "/v2/models/tf1", "/v1", "/favicon.ico", "/v1x/models"])
def test_paths_of_no_api(served: Running, path: str) -> None:
    assert call(served.rest_port, "GET", path).status == 404
