"""A client of a model server, and a command: `python -m serving.client classify photo.jpg`.

    with Client("localhost:8500", "cait_xxs24_224") as client:
        (labels,) = client.classify("photo.jpg")

`serving.client.asynchronous` has the same client for asyncio; `serving.client.command` is the
command. A client loads TensorFlow when it is made, which takes seconds: the messages need it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from signatures.quiet import load_tensorflow

from .calls import Call, FailedImagesError, attempts
from .channels import SERVER, TIMEOUT, ClientError, Tls, channel_options, client_error
from .images import InvalidImagesError
from .types import Images, Label, Metadata, ModelSpec, VersionStatus

if TYPE_CHECKING:
    from ..tensors import Array

__all__ = [
    "Client",
    "ClientError",
    "FailedImagesError",
    "InvalidImagesError",
    "Label",
    "Metadata",
    "Tls",
    "VersionStatus",
]

T = TypeVar("T")


class Client:
    """Calls one model of one server. Threads may share one.

    Images are normalised arrays, float32 (B, S, S, 3), or encoded ones as bytes or paths, where a
    signature takes them. Every call takes a `timeout` in seconds of its own.

    The header of every encoded image is read before a call is sent: an InvalidImagesError, which
    is a ValueError, names each that no model takes. A server refuses a call as a whole for one
    image that it cannot decode, and one that batches also refuses a good image that was in a batch
    with someone else's. So a call for encoded images that is refused for them is sent again for
    fewer and fewer of them, up to four times for one by itself, all within the call's time. If
    all of them are answered then, the caller sees nothing of it; otherwise a FailedImagesError,
    which is a ClientError, names each image at fault and has the answers for the others.

    Args:
        server: address of its gRPC port.
        model: name of the model.
        version: its number; the latest if neither this nor `label` is given.
        label: its label.
        timeout: seconds that a call has, with all that is sent again.
        tls: for servers that have TLS; without it the connection is plain.
        retries: whether calls that ended UNAVAILABLE are sent again; see `serving.client.channels`.

    Raises:
        OSError: a file of `tls` cannot be read.
        ValueError: one is not what it should be, nor is the address, or a version and a label are
            given.
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
            self._channel = grpc.insecure_channel(server, options)
        else:
            self._channel = grpc.secure_channel(server, tls.credentials(), options)
        load_tensorflow(set_up_devices=False)
        from . import messages as client_messages

        self._messages = client_messages
        self._methods = client_messages.methods(self._channel)

    def predict(
        self,
        inputs: Mapping[str, Any] | Images,
        signature: str = "serving_default",
        outputs: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "dict[str, Array]":
        """Any signature.

        Args:
            inputs: arrays by name, sent with the dtype that they have; bytes and paths are images.
                Images alone are the input `images` or `image_bytes`, whichever form they have.
                Encoded ones are those alone, and `image_bytes` of a signature `bytes_...`.
            signature: its name.
            outputs: those to be sent; all if there are none.
            timeout: seconds for this call.

        Returns:
            The outputs by name; strings are bytes in an object array.

        Raises:
            FailedImagesError: encoded images were refused; it has the outputs for the others.
            ClientError: the call failed.
            InvalidImagesError: encoded images that no model takes; nothing was sent.
            ValueError: an input is no tensor.
            OSError: an image's file cannot be read.
        """
        return self._run(self._messages.predict(self._model, inputs, signature, outputs), timeout)

    def classify(self, images: Images, timeout: float | None = None) -> list[tuple[Label, ...]]:
        """The best classes of encoded images, best first.

        Raises:
            FailedImagesError: images were refused; it has the classes of the others.
            ClientError: the call failed.
            InvalidImagesError: images that no model takes; nothing was sent.
            ValueError: they are not encoded images.
            OSError: an image's file cannot be read.
        """
        return self._run(self._messages.classify(self._model, images), timeout)

    def class_attention(self, images: Images, timeout: float | None = None) -> "dict[int, Array]":
        """Class attention of every block, float32 (B, H, 1, N+1), by the block's number.

        Raises:
            FailedImagesError: encoded images were refused; it has the attention of the others.
            ClientError: the call failed.
            InvalidImagesError: encoded images that no model takes; nothing was sent.
            ValueError: they are no images.
            OSError: an image's file cannot be read.
        """
        return self._run(self._messages.class_attention(self._model, images), timeout)

    def self_attention(
        self, images: Images, block: int | Sequence[int], timeout: float | None = None
    ) -> "Array":
        """Self-attention, float32 (B, H, N, N), of one block: all would be up to 1.8 GiB an image.

        Args:
            images: normalised ones.
            block: its number, or one for each image.
            timeout: seconds for this call.

        Raises:
            ClientError: the call failed.
            ValueError: the images are encoded, or there is another number of blocks.
        """
        return self._run(self._messages.self_attention(self._model, images, block), timeout)

    def metadata(self, timeout: float | None = None) -> Metadata:
        """The signatures of the version that answers.

        Raises:
            ClientError: the call failed.
        """
        return self._run(self._messages.metadata(self._model), timeout)

    def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """The versions of the model that there have been, the latest first.

        Raises:
            ClientError: the call failed.
        """
        return self._run(self._messages.status(self._model), timeout)

    def close(self) -> None:
        """Ends the connection; calls that are not done are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, call: Call[T], timeout: float | None) -> T:
        end = time.monotonic() + (self._timeout if timeout is None else timeout)
        steps = attempts(call)
        attempt = next(steps)
        while True:
            if attempt.wait:
                time.sleep(max(0.0, min(attempt.wait, end - time.monotonic())))
            left = max(0.0, end - time.monotonic())
            outcome: Any
            try:
                outcome = self._methods[call.method](attempt.request, left)
            except grpc.RpcError as error:
                outcome = client_error(error, self._server, self._model.name)
                outcome.__cause__ = error
            try:
                attempt = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
