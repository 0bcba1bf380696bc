"""What ends at a time limit, with a message: a photograph that does not come or is not decoded."""

import asyncio
import json
import threading
from typing import Any

import pytest

from serving.attention.photograph import UnreadableImageError
from serving.page import app
from serving.page.command import SAMPLE


async def replied(sent: list[dict[str, Any]]) -> tuple[int, Any]:
    """The status and the body with which the page answers a POST of these messages."""
    received: list[dict[str, Any]] = []
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not sent:
            await never.wait()
        return sent.pop(0)

    async def send(message: Any) -> None:
        received.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/explain",
        "query_string": b"model=m&version=1",
        "headers": [(b"host", b"localhost")],
    }
    await app.create_app(lambda: "localhost:1", ["m"], sample=SAMPLE)(scope, receive, send)
    start, *parts = received
    return start["status"], json.loads(b"".join(part["body"] for part in parts))


def test_a_photograph_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.1)
    part = {"type": "http.request", "body": b"x", "more_body": True}
    assert asyncio.run(replied([part])) == (
        408,
        {"error": {"kind": "late", "message": "The photograph did not come in 0.1 seconds"}},
    )


def test_a_photograph_that_takes_too_long_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()
    decoded: list[bytes] = []

    def decode(encoded: bytes, size: int) -> Any:
        begun.set()
        assert ended.wait(60)
        decoded.append(encoded)

    monkeypatch.setattr(app, "read_photograph", decode)
    monkeypatch.setattr(app, "DECODE_SECONDS", 0.1)
    monkeypatch.setattr(app, "_DECODERS", 1)
    page = app._Page(lambda: "localhost:1", ["m"], 1.0, ())
    # The first is being decoded, and the second waits for it: it is not begun any more.
    for encoded in (b"first", b"second"):
        with pytest.raises(UnreadableImageError, match=r"^decoding it takes longer than 0\.1 sec"):
            page._photograph(encoded, 32)
        assert begun.is_set()
    ended.set()
    page._decoders.shutdown(wait=True)
    assert decoded == [b"first"]
