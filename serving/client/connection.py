"""What both clients share: the channel, the messages that go over it, and sending them."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from signatures.quiet import load_tensorflow

from ..errors import Code
from .calls import Call, attempts
from .channels import SERVER, TIMEOUT, ClientError, Tls, channel_options, client_error
from .tls_mismatch import explain
from .types import ModelSpec

T = TypeVar("T")


class Connection:
    """A channel to one server, for calls of one model. Its arguments are those of `Client`.

    Subclasses set `grpc_api`, `_sleep`, `_send` and `_in_thread`. These block or are awaited.
    """

    grpc_api: Any
    """`grpc` or `grpc.aio`."""

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
        self._tls = tls
        options = channel_options(server, tls, retries)
        if tls is None:
            self._channel = self.grpc_api.insecure_channel(server, options)
        else:
            self._channel = self.grpc_api.secure_channel(server, tls.credentials(), options)
        load_tensorflow(set_up_devices=False)
        from .messages import Calls, methods

        self._calls = Calls(self._model)
        self._methods = methods(self._channel)

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def _send(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        raise NotImplementedError

    async def _in_thread(self, function: Callable[[], T]) -> T:
        raise NotImplementedError

    async def _explained(self, error: ClientError) -> ClientError:
        """The error of a call that no server answered; says so where TLS is the reason."""
        reason = await self._in_thread(lambda: explain(self._server, self._tls))
        if reason is None:
            return error
        return ClientError(error.code, f"{reason} ({error.message})", error.server, error.model)

    async def _answer(self, call: Call[T], timeout: float | None) -> T:
        """Sends a call, as often as `attempts` says, and returns its answer."""
        end = time.monotonic() + (self._timeout if timeout is None else timeout)
        steps = attempts(call)
        attempt = next(steps)
        while True:
            if attempt.wait:
                await self._sleep(max(0.0, min(attempt.wait, end - time.monotonic())))
            left = max(0.0, end - time.monotonic())
            outcome: Any
            try:
                outcome = await self._send(self._methods[call.method], attempt.request, left)
            except grpc.RpcError as error:
                outcome = client_error(error, self._server, self._model.name)
                if outcome.code == Code.UNAVAILABLE:
                    outcome = await self._explained(outcome)
                outcome.__cause__ = error
            try:
                attempt = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
