"""The client of `serving.client` for asyncio: the same methods, to be awaited.

    async with AsyncClient("localhost:8500", "cait_xxs24_224") as client:
        (labels,) = await client.classify("photo.jpg")

It reads an image's file where it is called; whoever cannot wait for a disk gives bytes.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from signatures.quiet import load_tensorflow

from .calls import Call, attempts
from .channels import SERVER, TIMEOUT, Tls, channel_options, client_error
from .types import Images, Label, Metadata, ModelSpec, VersionStatus

if TYPE_CHECKING:
    from ..tensors import Array

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Calls one model of one server, within one event loop, in which it is to be made.

    Arguments, methods and errors are those of `serving.client.Client`.
    """

    def __init__(
        self,
        server: str = SERVER,
        model: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT,
        tls: Tls | None = None,
        retries: bool = True,
    ) -> None:
        self._server = server
        self._model = ModelSpec(model, version, label)
        self._timeout = timeout
        options = channel_options(server, tls, retries)
        if tls is None:
            self._channel = grpc.aio.insecure_channel(server, options)
        else:
            self._channel = grpc.aio.secure_channel(server, tls.credentials(), options)
        load_tensorflow(set_up_devices=False)
        from . import messages as client_messages

        self._messages = client_messages
        self._methods = client_messages.methods(self._channel)

    async def predict(
        self,
        inputs: Mapping[str, Any] | Images,
        signature: str = "serving_default",
        outputs: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "dict[str, Array]":
        """As `Client.predict`."""
        return await self._run(
            self._messages.predict(self._model, inputs, signature, outputs), timeout
        )

    async def classify(
        self, images: Images, timeout: float | None = None
    ) -> list[tuple[Label, ...]]:
        """As `Client.classify`."""
        return await self._run(self._messages.classify(self._model, images), timeout)

    async def class_attention(
        self, images: Images, timeout: float | None = None
    ) -> "dict[int, Array]":
        """As `Client.class_attention`."""
        return await self._run(self._messages.class_attention(self._model, images), timeout)

    async def self_attention(
        self, images: Images, block: int | Sequence[int], timeout: float | None = None
    ) -> "Array":
        """As `Client.self_attention`."""
        return await self._run(self._messages.self_attention(self._model, images, block), timeout)

    async def metadata(self, timeout: float | None = None) -> Metadata:
        """As `Client.metadata`."""
        return await self._run(self._messages.metadata(self._model), timeout)

    async def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """As `Client.status`."""
        return await self._run(self._messages.status(self._model), timeout)

    async def close(self) -> None:
        """Ends the connection; calls that are not done are cancelled."""
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

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        end = time.monotonic() + (self._timeout if timeout is None else timeout)
        steps = attempts(call)
        attempt = next(steps)
        while True:
            if attempt.wait:
                await asyncio.sleep(max(0.0, min(attempt.wait, end - time.monotonic())))
            left = max(0.0, end - time.monotonic())
            outcome: Any
            try:
                outcome = await self._methods[call.method](attempt.request, timeout=left)
            except grpc.RpcError as error:
                outcome = client_error(error, self._server, self._model.name)
                outcome.__cause__ = error
            try:
                attempt = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
