"""HTTP calls of the tests, with nothing between them and the socket but http.client."""

import dataclasses
import http.client
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class HttpReply:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body; with NaN and Infinity, as Python reads and the server writes them."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.text)


def call(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout: float = 120.0,
) -> HttpReply:
    """A call on a connection of its own; a body that is no text or bytes is sent as JSON."""
    if body is not None and not isinstance(body, str | bytes):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "surrogateescape")
        return HttpReply(
            response.status, text, {key.lower(): value for key, value in response.getheaders()}
        )
    finally:
        connection.close()


def post(port: int, path: str, body: Any, **rest: Any) -> Any:
    """What the server answers to a call that goes well."""
    reply = call(port, "POST", path, body, **rest)
    assert reply.status == 200, reply
    return reply.json


def refused(reply: HttpReply, status: int, message: str) -> None:
    """The call failed with this status and exactly this message."""
    assert (reply.status, reply.json) == (status, {"error": message})
