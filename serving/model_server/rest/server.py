"""HTTP for the REST API and the metrics: uvicorn in its own thread.

Source: `http_server.cc` and util/net_http of tensorflow/serving.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...errors import Code, ServingError
from ...http_guard import HttpGuard
from .api import HTTP_STATUS, PREFIX, Reply, RestApi
from .body import Bodies, BodyError
from .connection import TimedProtocol
from .outputs import error_json

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_JSON = "application/json"
# Seconds beyond the grace to wait for the thread; uvicorn checks ten times a second.
_MARGIN = 5.0
# Seconds that an idle connection is kept.
_KEEP_ALIVE = 60


class RestServer:
    """An HTTP server over the REST API.

    Args:
        api: answers paths that begin with `/v1/`.
        threads: number of calls answered at a time.
        cors: lets web pages of other origins call the server.
        metrics: the path of the metrics, and the function that writes them.
        hosts: the names that a request may be for; None is any.
    """

    def __init__(
        self,
        api: RestApi,
        threads: int,
        cors: bool = False,
        metrics: tuple[str, Callable[[], str]] | None = None,
        hosts: Sequence[str] | None = None,
    ) -> None:
        self._api = api
        self._headers = _CORS if cors else {}
        self._metrics = metrics
        self._bodies = Bodies()
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")
        # Of its own, so that the metrics can be read while every other thread is busy.
        self._metrics_thread = futures.ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._socket: socket.socket | None = None
        self._config = uvicorn.Config(
            HttpGuard(self._answer, hosts),
            interface="asgi3",
            http=TimedProtocol,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._serve, name="rest", daemon=True)
        self._end = 0.0

    def listen(self, host: str, port: int) -> int:
        """Listens on an address and returns its port; port 0 takes a free one.

        Raises:
            ServingError: UNAVAILABLE, the address cannot be used.
        """
        try:
            address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(address[4][:2], family=address[0])
        except OSError as error:
            # The text for an address in use repeats the address, so the number's text is taken. An
            # unknown name has a negative number, which has no text.
            known = error.errno is not None and error.errno > 0
            reason = os.strerror(error.errno or 0) if known else error.strerror
            raise ServingError(
                Code.UNAVAILABLE, f"cannot listen on {host}:{port}: {reason}"
            ) from error
        # Connections inherit this. Without it a reply, sent in two parts, takes 40 ms longer.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begins to answer calls."""
        self._thread.start()

    def begin_stop(self, grace: float) -> None:
        """Refuses new calls. Those in flight have `grace` seconds."""
        self._end = time.monotonic() + grace
        self._config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True

    def stop(self) -> bool:
        """Waits for the calls in flight.

        Returns:
            Whether all were answered in time.
        """
        if self._thread.is_alive():
            self._thread.join(max(0.0, self._end - time.monotonic()) + _MARGIN)
            answered = not self._thread.is_alive() and time.monotonic() < self._end
        else:
            answered = True
            if self._socket is not None:
                self._socket.close()
        for threads in (self._threads, self._metrics_thread):
            threads.shutdown(wait=False, cancel_futures=True)
        return answered

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket] if self._socket is not None else None)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with contextlib.suppress(ClientDisconnect):
            response = await self._response(request)
            await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        query = request.scope["query_string"].decode("ascii", "replace")
        whole = f"{path}?{query}" if query else path
        if self._metrics is not None and path == self._metrics[0]:
            return await self._metrics_page(whole)
        if not PREFIX.match(path):
            return Response(_NOT_FOUND, 404, media_type="text/html")
        if request.method == "OPTIONS":
            reply = self._api.preflight(request.headers.get("origin", ""))
            return Response(reply.body, reply.status, self._headers)
        try:
            body = await self._bodies.read(request)
        except BodyError as error:
            # What else comes of the body is not read.
            headers = {**self._headers, "Connection": "close"}
            return Response(error_json(error.message), error.status, headers, _JSON)
        try:
            reply = await self._run(request, whole, body)
        except asyncio.CancelledError:
            # uvicorn cancels calls at the end of the grace.
            text = error_json("The server stopped before this call was answered")
            reply = Reply(HTTP_STATUS[Code.UNAVAILABLE], text.encode())
        finally:
            self._bodies.release(body)
        return Response(reply.body, reply.status, self._headers, _JSON)

    async def _run(self, request: Request, path: str, body: bytes) -> Reply:
        """Runs a call in a thread.

        Raises:
            ClientDisconnect: the client has gone; a call that has not begun is not run.
        """
        compressed = "gzip" in request.headers.get("content-encoding", "")
        future = self._threads.submit(self._api.answer, request.method, path, body, compressed)
        answered = asyncio.wrap_future(future)
        # After the body there is nothing to receive but the end of the connection.
        gone = asyncio.ensure_future(request.receive())
        either: set[asyncio.Future[Any]] = {answered, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            left = gone.done() and gone.result()["type"] == "http.disconnect"
            if left and future.cancel():
                raise ClientDisconnect
            return await answered
        finally:
            gone.cancel()

    async def _metrics_page(self, path: str) -> Response:
        assert self._metrics is not None
        expected, page = self._metrics
        if path != expected:
            text = f"Unexpected path: {path}. Should be {expected}"
            return Response(text, 400, media_type="text/plain")
        text = await asyncio.get_running_loop().run_in_executor(self._metrics_thread, page)
        return Response(text, media_type="text/plain")


_NOT_FOUND = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    b"</BODY></HTML>\n"
)
