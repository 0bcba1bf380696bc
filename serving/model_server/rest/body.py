"""Bodies of requests: how large they may be, how long they may take, and how many are held."""

import asyncio

from starlette.requests import Request

from .api import MOST_UNCOMPRESSED

MOST_BODY = MOST_UNCOMPRESSED
"""The most bytes of a body, which is also the limit of a compressed one. Numbers of JSON take eight
times their text. Larger inputs go over gRPC."""

MOST_HELD = 10 * MOST_BODY
"""The most bytes of all bodies that are read or wait for a thread."""

SECONDS = 120.0
"""Seconds for a body to come."""


class BodyError(Exception):
    """A body that is not taken.

    Attributes:
        status: the HTTP status.
        message: what was found and what was expected, in one line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Bodies:
    """The bodies of one server, for one event loop."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Reads a body, which is held until `release`.

        Raises:
            BodyError: it is too large or too slow, or too much is held.
            ClientDisconnect: the client has gone.
        """
        claimed = request.headers.get("content-length", "")
        # h11 refuses what is no number.
        if claimed.isdecimal() and int(claimed) > MOST_BODY:
            raise _too_large(f"Content-Length {claimed[:30]}")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._held += len(chunk)
                    if size > MOST_BODY:
                        raise _too_large("A body without Content-Length")
                    if self._held > MOST_HELD:
                        raise BodyError(503, "Other bodies fill the memory; try again later")
                    chunks.append(chunk)
        except BaseException as error:
            self._held -= size
            if isinstance(error, TimeoutError):
                raise BodyError(408, f"The body did not come in {SECONDS:g} seconds") from None
            raise
        return b"".join(chunks)

    def release(self, body: bytes) -> None:
        """Gives back what `read` holds."""
        self._held -= len(body)


def _too_large(found: str) -> BodyError:
    return BodyError(413, f"{found}: expected {MOST_BODY} bytes at most; gRPC takes more")
