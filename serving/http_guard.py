"""What the REST server and the page check of a request first: whom it is for, and from.

A web page of another site can make a browser send requests to this machine. It can read the answers
if it gives this machine a name of its own (DNS rebinding), which the header Host shows.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine."""

_READING = ("GET", "HEAD", "OPTIONS")


class HttpGuard:
    """Refuses requests for other hosts, and on request those of other sites.

    Args:
        app: answers the other requests.
        hosts: names that a request may have in its header Host; None is any. A request without
            the header, which no browser sends, is answered.
        same_origin: refuses requests of other sites that are not for reading.
        headers: added to a refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str] | None,
        same_origin: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._same_origin = same_origin
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._refusal(scope["method"], Headers(scope=scope))
            if refusal is not None:
                status, message = refusal
                response = JSONResponse({"error": message}, status, headers=self._headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """The status and the message with which a request is refused; None answers it."""
        host = headers.get("host", "")
        if host and self._hosts is not None and _name(host) not in self._hosts:
            names = ", ".join(self._hosts)
            return 400, f"Host {host[:100]!r}: expected {names}; --host=0.0.0.0 answers any name"
        if not self._same_origin or method in _READING:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, f"Origin {origin[:100]!r}: expected a page of this server, {host}"
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            return 403, f"Sec-Fetch-Site {site[:100]!r}: expected a page of this server"
        return None


def _name(host: str) -> str:
    """The name in a header Host, without its port and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
