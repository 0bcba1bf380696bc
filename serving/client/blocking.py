"""A client of a model server, and a command: `python -m serving.client classify photo.jpg`.

    with Client("localhost:8500", "cait_xxs24_224") as client:
        (labels,) = client.classify("photo.jpg")

`serving.client.asynchronous` has the same client for asyncio; `serving.client.command` is the
command. The constructor loads TensorFlow, whose messages the calls need: this takes seconds.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from .calls import Call
from .connection import Connection
from .types import Images, Label, Metadata, VersionStatus

if TYPE_CHECKING:
    from ..tensors import Array

T = TypeVar("T")


class Client(Connection):
    """Calls one model of one server. Threads may share a client.

    Images are normalised arrays, float32 (B, S, S, 3), or, for the signatures that take them,
    encoded images as bytes or paths. Every call has its own `timeout` in seconds.

    The client reads the header of every encoded image before it sends a call. If no model takes
    some of them, it raises an InvalidImagesError, which is a ValueError and names them.

    A server refuses a whole call for one image that it cannot decode, and a server that batches
    also refuses good images that shared a batch with such an image of another client. So the client
    sends the images of a refused call again, in halves, down to single images, and a single image
    up to four times, all within the call's timeout. If every image is answered in the end, the call
    returns normally. Otherwise it raises a FailedImagesError, which is a ClientError, names the
    images at fault and has the answers for the others.

    Args:
        server: address of the server's gRPC port.
        model: name of the model.
        version: number of the version; the latest without `version` and `label`.
        label: label of the version.
        timeout: seconds for a call and all that is sent again for it.
        tls: for servers with TLS; without it the connection is not encrypted.
        retries: sends calls again that ended UNAVAILABLE; see `serving.client.channels`.

    Raises:
        OSError: a file of `tls` cannot be read.
        ValueError: the address or a file of `tls` is malformed, or both `version` and `label` are
            set.
    """

    grpc_api = grpc

    def predict(
        self,
        inputs: Mapping[str, Any] | Images,
        signature: str = "serving_default",
        outputs: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "dict[str, Array]":
        """Runs any signature.

        Args:
            inputs: arrays by name, sent with their own dtype; bytes and paths are images. Or images
                alone: normalised ones become the input `images`, encoded ones `image_bytes`.
                Images count as encoded when they come alone, or as `image_bytes` of a signature
                `bytes_...`.
            signature: name of the signature.
            outputs: names of the outputs to return; all by default.
            timeout: seconds for this call.

        Returns:
            The outputs by name; strings are bytes in an object array.

        Raises:
            FailedImagesError: the server refused encoded images; has the answers for the others.
            ClientError: the call failed.
            InvalidImagesError: no model takes some encoded images; nothing was sent.
            ValueError: an input cannot be made a tensor, or images have the wrong form.
            OSError: an image's file cannot be read.
        """
        return self._run(self._calls.predict(inputs, signature, outputs), timeout)

    def classify(self, images: Images, timeout: float | None = None) -> list[tuple[Label, ...]]:
        """The best classes of encoded images, best first. Raises the errors of `predict`."""
        return self._run(self._calls.classify(images), timeout)

    def class_attention(self, images: Images, timeout: float | None = None) -> "dict[int, Array]":
        """Class attention of every block, float32 (B, H, 1, N+1), by the block's number.

        Raises the errors of `predict`.
        """
        return self._run(self._calls.class_attention(images), timeout)

    def self_attention(
        self, images: Images, block: int | Sequence[int], timeout: float | None = None
    ) -> "Array":
        """Self-attention of one block, float32 (B, H, N, N).

        All blocks together would be up to 1.8 GiB for an image.

        Args:
            images: normalised images.
            block: number of the block, or one number for each image.
            timeout: seconds for this call.

        Raises:
            ClientError: the call failed.
            ValueError: the images are encoded, or `block` has another length than `images`.
        """
        return self._run(self._calls.self_attention(images, block), timeout)

    def metadata(self, timeout: float | None = None) -> Metadata:
        """The signatures of the version that answers. Raises a ClientError if the call fails."""
        return self._run(self._calls.metadata(), timeout)

    def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """Every version that the server has had, the latest first. Raises a ClientError."""
        return self._run(self._calls.status(), timeout)

    def close(self) -> None:
        """Closes the connection and cancels the calls in flight."""
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

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _send(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        return method(request, timeout=timeout)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return function()

    def _run(self, call: Call[T], timeout: float | None) -> T:
        # `_sleep` and `_send` block and never suspend, so one step runs the whole coroutine.
        try:
            self._answer(call, timeout).send(None)
        except StopIteration as done:
            answer: T = done.value
            return answer
        raise AssertionError("the coroutine was suspended")
