"""A client of a model server, and a command: `python -m serving.client classify photo.jpg`.

    with Client("localhost:8500", "cait_xxs24_224") as client:
        (labels,) = client.classify("photo.jpg")

`serving.aio_client` has the same client for asyncio; `serving.client_command` is the command. The
messages of TF Serving's API load TensorFlow, which takes seconds; that is when a client is made.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from .channels import SERVER, TIMEOUT, ClientError, Tls, channel_options, client_error
from .client_types import Images, Label, Metadata, ModelSpec, VersionStatus
from .quiet import load_messages

if TYPE_CHECKING:
    from .client_messages import Call
    from .tensors import Array

__all__ = ["Client", "ClientError", "Label", "Metadata", "Tls", "VersionStatus"]

T = TypeVar("T")


class Client:
    """Calls one model of one server. Threads may share one.

    Images are normalised arrays, float32 (B, S, S, 3), or encoded ones as bytes or paths, where a
    signature takes them. Every call takes a `timeout` in seconds of its own.

    Args:
        server: address of its gRPC port.
        model: name of the model.
        version: its number; the latest if neither this nor `label` is given.
        label: its label.
        timeout: seconds that a call has, its retries included.
        tls: for servers that have TLS; without it the connection is plain.
        retries: whether calls that ended UNAVAILABLE are sent again; see `serving.channels`.

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
        load_messages()
        from . import client_messages

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
            signature: its name.
            outputs: those to be sent; all if there are none.
            timeout: seconds for this call.

        Returns:
            The outputs by name; strings are bytes in an object array.

        Raises:
            ClientError: the call failed.
            ValueError: an input is no tensor.
            OSError: an image's file cannot be read.
        """
        return self._run(self._messages.predict(self._model, inputs, signature, outputs), timeout)

    def classify(self, images: Images, timeout: float | None = None) -> list[tuple[Label, ...]]:
        """The best classes of encoded images, best first.

        Raises:
            ClientError: the call failed.
            ValueError: they are not encoded images.
            OSError: an image's file cannot be read.
        """
        return self._run(self._messages.classify(self._model, images), timeout)

    def class_attention(self, images: Images, timeout: float | None = None) -> "dict[int, Array]":
        """Class attention of every block, float32 (B, H, 1, N+1), by the block's number.

        Raises:
            ClientError: the call failed.
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

    def _run(self, call: "Call[T]", timeout: float | None) -> T:
        seconds = self._timeout if timeout is None else timeout
        try:
            reply = self._methods[call.method](call.request, seconds)
        except grpc.RpcError as error:
            raise client_error(error, self._server, self._model.name) from error
        return call.read(reply)


if __name__ == "__main__":
    from .client_command import main

    sys.exit(main())
