"""The HTTP server of the page: answers `static/page.js` with results of a model server.

Maps are sent to the browser with one byte for each patch or pixel, because the self-attention of
one block has up to 38 MB as float32.
"""

import asyncio
import collections
import hashlib
import pathlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from typing import Any

import matplotlib as mpl
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from signatures.untrained import WARNING

from ..attention.figure import COLOURS, percent
from ..attention.maps import Array
from ..attention.models import AttentionError
from ..attention.photograph import Photograph, UnreadableImageError, read_photograph
from ..attention.served import served_model
from ..http_guard import LOOPBACK, HttpGuard
from .encoding import as_text, maps_as_text, png_address
from .encoding import encoded as in_text
from .models import list_models

STATIC = pathlib.Path(__file__).with_name("static")

MOST_BYTES = 64 * 1024 * 1024
"""The largest file of a photograph."""

DECODE_SECONDS = 60.0
"""Seconds to decode a photograph. Every photograph that the header lets pass takes a few on an idle
processor; nothing can stop a decoder."""

BODY_SECONDS = 120.0
"""Seconds for the file of a photograph to come."""

_KEPT = 2
"""Number of blocks whose self-attention is kept, so that another head needs no second run."""

# Photographs that are decoded at once; each may need 150 MB.
_DECODERS = 4

_HEADERS = {
    # The page loads nothing from other hosts and sends nothing to them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_STATUS = {
    "away": 503,
    "loading": 503,
    "missing": 404,
    "input": 400,
    "failed": 502,
    "image": 422,
    "late": 408,
}
_INT32 = 2**31 - 1


def create_app(
    address: Callable[[], str],
    names: Sequence[str],
    timeout: float = 300.0,
    hosts: Sequence[str] | None = LOOPBACK,
    labels: Collection[str] = (),
    *,
    sample: pathlib.Path,
) -> Starlette:
    """The page as an application.

    Args:
        address: returns the address of the model server, or raises an AttentionError.
        names: names of the models to offer.
        timeout: seconds for a run of a model.
        hosts: host names that a browser may use for this page; None is any.
        labels: labels that versions may have.
        sample: the photograph to begin with.
    """
    page = _Page(address, names, timeout, labels)
    first = {"name": sample.name, "content": in_text(sample.read_bytes())}
    return Starlette(
        routes=[
            Route("/", lambda _: FileResponse(STATIC / "page.html")),
            Route("/colours", _colours),
            Route("/sample", lambda _: JSONResponse(first)),
            Route("/models", page.models),
            Route("/explain", page.explain, methods=["POST"]),
            Route("/self_attention", page.self_attention, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(_WithHeaders),
            Middleware(HttpGuard, hosts=hosts, same_origin=True),
        ],
    )


class _WithHeaders:
    """Adds `_HEADERS` to every answer, also to files, redirects and errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Page:
    def __init__(
        self,
        address: Callable[[], str],
        names: Sequence[str],
        timeout: float,
        labels: Collection[str],
    ) -> None:
        self._address = address
        self._names = names
        self._labels = labels
        self._timeout = timeout
        self._blocks: dict[tuple[str, str, int], int] = {}
        self._kept: collections.OrderedDict[tuple[Any, ...], Array] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._decoders = futures.ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")

    async def models(self, request: Request) -> Response:
        def answer() -> Mapping[str, Any]:
            address = self._address()
            return {"server": address, "models": list_models(address, self._names, self._labels)}

        return await _answered(answer)

    async def explain(self, request: Request) -> Response:
        return await _answered_with_body(self._explain, request)

    async def self_attention(self, request: Request) -> Response:
        return await _answered_with_body(self._self_attention, request)

    def _explain(self, query: Mapping[str, str], encoded: bytes) -> Mapping[str, Any]:
        name, version = _model(query)
        address = self._address()
        with served_model(address, name, version, self._timeout) as model:
            photograph = self._photograph(encoded, model.image_size)
            result = model.explain(photograph)
            blocks = self._blocks.get((address, name, version))
            if blocks is None:
                blocks = self._blocks[address, name, version] = model.self_attention_blocks()
        height, width = photograph.shown.shape[:2]
        return {
            "warning": WARNING if model.untrained else None,
            "photograph": {
                "png": png_address(photograph.shown),
                "width": width,
                "height": height,
                "left": photograph.left,
                "top": photograph.top,
                "size": photograph.size,
            },
            "grid": result.maps[0].shape[1],
            "best": result.best
            and [
                {"label": label, "probability": probability, "text": percent(probability)}
                for label, probability in result.best
            ],
            "blocks": [
                [{"map": as_text(values), "most": f"{values.max():.2g}"} for values in maps]
                for maps in result.maps
            ],
            "saliency": as_text(result.saliency.clip(0, 1)),
            "self_attention_blocks": blocks,
        }

    def _self_attention(self, query: Mapping[str, str], encoded: bytes) -> Mapping[str, Any]:
        name, version = _model(query)
        block = _number(query, "block", _INT32)
        address = self._address()
        key = (address, name, version, block, hashlib.sha256(encoded).digest())
        with self._lock:
            attention = self._kept.get(key)
        if attention is None:
            with served_model(address, name, version, self._timeout) as model:
                photograph = self._photograph(encoded, model.image_size)
                attention = model.self_attention(photograph, block)
            with self._lock:
                self._kept[key] = attention
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        if query.get("head", "mean") == "mean":
            values: Array = attention.mean(axis=0)
        else:
            head = _number(query, "head")
            if head >= len(attention):
                raise AttentionError("input", f"head {head}: 0 to {len(attention) - 1}")
            values = attention[head]
        # Each patch's map is scaled by itself, to show where that patch looks most.
        return {"map": maps_as_text(values)}

    def _photograph(self, encoded: bytes, size: int) -> Photograph:
        """Decodes a photograph, for `DECODE_SECONDS` at most.

        Raises:
            UnreadableImageError: no model accepts it, or it takes longer.
        """
        decoding = self._decoders.submit(read_photograph, encoded, size)
        try:
            return decoding.result(DECODE_SECONDS)
        except TimeoutError:
            # One that waits for others is not begun; one that runs goes on.
            decoding.cancel()
            raise UnreadableImageError(
                f"decoding it takes longer than {DECODE_SECONDS:g} seconds, or others are being "
                "decoded; save it as a smaller or as a baseline JPEG"
            ) from None


async def _answered_with_body(
    answer: Callable[[Mapping[str, str], bytes], Mapping[str, Any]], request: Request
) -> Response:
    """The answer to a request with a photograph, or an error."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            encoded = await _body(request)
    except TimeoutError:
        return _failed("late", f"The photograph did not come in {BODY_SECONDS:g} seconds")
    if encoded is None:
        return _failed(
            "image", f"The image cannot be read: its file is larger than {MOST_BYTES >> 20} MiB"
        )
    return await _answered(lambda: answer(request.query_params, encoded))


async def _body(request: Request) -> bytes | None:
    """The file of the photograph; None if it is too large. Browsers expect all of it to be read."""
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total <= MOST_BYTES:
            parts.append(part)
    return b"".join(parts) if total <= MOST_BYTES else None


async def _answered(answer: Callable[[], Mapping[str, Any]]) -> Response:
    """The answer, or an error as `{"error": {"kind": ..., "message": ...}}`."""
    try:
        return JSONResponse(await run_in_threadpool(answer))
    except AttentionError as error:
        return _failed(str(error.kind), str(error))
    except UnreadableImageError as error:
        return _failed("image", f"The image cannot be read: {error}")


def _failed(kind: str, message: str) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message}}, _STATUS[kind])


def _colours(request: Request) -> Response:
    """The colour map: 256 times red, green, blue."""
    table = mpl.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3]
    return JSONResponse(table.ravel().tolist())


def _model(query: Mapping[str, str]) -> tuple[str, int]:
    name = query.get("model", "")
    if not name:
        raise AttentionError("input", "model: missing")
    return name, _number(query, "version")


def _number(query: Mapping[str, str], name: str, most: int = 2**63 - 1) -> int:
    text = query.get(name, "")
    # Python refuses to convert thousands of digits.
    if not text.isascii() or not text.isdecimal() or len(text) > 30 or int(text) > most:
        raise AttentionError("input", f"{name}: {text[:30]!r}; expected a number up to {most}")
    return int(text)
