"""The client of `serving.client` for asyncio: the same methods, to be awaited.

    async with AsyncClient("localhost:8500", "cait_xxs24_224") as client:
        (labels,) = await client.classify("photo.jpg")

It reads image files in the thread of the event loop. Pass bytes where that must not block.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from .connection import Connection
from .types import Images, Label, Metadata, VersionStatus

if TYPE_CHECKING:
    from ..tensors import Array


T = TypeVar("T")


class AsyncClient(Connection):
    """Calls one model of one server, within the event loop in which the client was made.

    Arguments, methods and errors are those of `serving.client.Client`.
    """

    grpc_api = grpc.aio

    async def predict(
        self,
        inputs: Mapping[str, Any] | Images,
        signature: str = "serving_default",
        outputs: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "dict[str, Array]":
        """As `Client.predict`."""
        call = self._calls.predict(inputs, signature, outputs)
        return await self._answer(call, timeout)

    async def classify(
        self, images: Images, timeout: float | None = None
    ) -> list[tuple[Label, ...]]:
        """As `Client.classify`."""
        return await self._answer(self._calls.classify(images), timeout)

    async def class_attention(
        self, images: Images, timeout: float | None = None
    ) -> "dict[int, Array]":
        """As `Client.class_attention`."""
        return await self._answer(self._calls.class_attention(images), timeout)

    async def self_attention(
        self, images: Images, block: int | Sequence[int], timeout: float | None = None
    ) -> "Array":
        """As `Client.self_attention`."""
        return await self._answer(self._calls.self_attention(images, block), timeout)

    async def metadata(self, timeout: float | None = None) -> Metadata:
        """As `Client.metadata`."""
        return await self._answer(self._calls.metadata(), timeout)

    async def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """As `Client.status`."""
        return await self._answer(self._calls.status(), timeout)

    async def close(self) -> None:
        """Closes the connection and cancels the calls in flight."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    async def _send(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        return await method(request, timeout=timeout)
