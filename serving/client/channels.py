"""How a client reaches a server: address, limits, retries and TLS.

gRPC itself does the retries, of two kinds. It always sends a call again that never reached a
server, or that the server refused before it began. With `RETRIES` it also sends a call again that
ended UNAVAILABLE. That is safe only for calls that may run twice: the calls listed there read a
model and change nothing. No other status is retried: after DEADLINE_EXCEEDED no time is left, and
the others would end the same way.

Sources: gRPC's "Status codes and their use", and proposal A6 (client retries).
"""

import dataclasses
import json
import pathlib
import re
import ssl
from typing import Any

import grpc

from signatures.files import read_file
from signatures.graph_errors import is_of_graph, reason

from ..errors import Code, ServingError

SERVER = "localhost:8500"
"""Default address of a server."""

TIMEOUT = 60.0
"""Default number of seconds for a call."""

RETRIES: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [
                {"service": "tensorflow.serving.PredictionService", "method": "Predict"},
                {"service": "tensorflow.serving.PredictionService", "method": "Classify"},
                {"service": "tensorflow.serving.PredictionService", "method": "GetModelMetadata"},
                {"service": "tensorflow.serving.ModelService", "method": "GetModelStatus"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # A client stops retrying on a server that refuses most of its calls.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
}

_UNLIMITED = -1

# What messages of TF Serving's and of gRPC's begin with or contain, and what a user has to know
# beside them.
_HINTS = {
    "Unrecognized servable version label": "a server knows the labels of its models.config, which "
    "--model_config_file gives it",
    "No signature was found with the name: classify": "a feature extractor has no classes",
    "Servable not found for request": "the server has no such model or version, or is still "
    "loading it; the command status of serving.client lists a model's versions",
    "Invalid JPEG data": "the file is damaged or cut off",
    "Failed parsing HTTP/2": "no gRPC port; a server's REST port is another",
    "Deadline Exceeded": "the call took longer than its timeout",
}


class ClientError(ServingError):
    """A call that failed.

    Attributes:
        code: the status code from the server or from gRPC.
        message: the text that came with it. TensorFlow's names nodes of the graph, which the error
            as text leaves out.
        server: the address of the server.
        model: the name of the model.
    """

    def __init__(self, code: Code, message: str, server: str, model: str) -> None:
        super().__init__(code, message)
        self.server = server
        self.model = model

    @property
    def text(self) -> str:
        """The message without names of nodes, and with what to do about it."""
        text = reason(self.message) if is_of_graph(self.message) else self.message
        hints = [hint for part, hint in _HINTS.items() if part in text]
        # Where TLS is what failed, the text says so, with the address that was tried last.
        if text.startswith("failed to connect") and "Connection refused" in text:
            hints.append("no server listens there, or one that is still loading its models")
        return "; ".join([text, *hints])

    def __str__(self) -> str:
        """The server, the model, the code and the text."""
        return f"{self.server}, model {self.model}: {self.code.name}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files in PEM format by which a client verifies a server, and a server a client.

    Attributes:
        ca: certificates of the authorities that may sign the server's; gRPC's own by default.
        cert: the client's own certificate, for servers that verify clients; needs `key`.
        key: the private key of `cert`.
        server_name: the name in the server's certificate, where it is not the host of the address.
    """

    ca: str | pathlib.Path | None = None
    cert: str | pathlib.Path | None = None
    key: str | pathlib.Path | None = None
    server_name: str | None = None

    def credentials(self) -> Any:
        """Reads the files.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is malformed; one line.
        """
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client's certificate and its key are needed together")
        ca, cert, key = (
            None if path is None else _read(pathlib.Path(path))
            for path in (self.ca, self.cert, self.key)
        )
        # gRPC accepts malformed files and then reaches no server.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise ValueError(f"{self.ca}: no certificates in PEM format") from None
        try:
            if self.cert is not None:
                # gRPC cannot read a key with a password. The empty one keeps OpenSSL from asking.
                context.load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError:
            raise ValueError(
                f"{self.cert}, {self.key}: not a certificate and its private key in PEM format"
            ) from None
        return grpc.ssl_channel_credentials(ca, key, cert)


def channel_options(server: str, tls: Tls | None, retries: bool) -> list[tuple[str, Any]]:
    """Options of a client's channel.

    Args:
        server: the server's address.
        tls: the client's files.
        retries: whether `RETRIES` apply.

    Raises:
        ValueError: `server` is not an address; one line.
    """
    _check_address(server)
    options: list[tuple[str, Any]] = [
        # gRPC's default limit for replies, 4 MiB, is less than the attention of one block.
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", _UNLIMITED),
    ]
    if retries:
        options += [
            ("grpc.service_config", json.dumps(RETRIES)),
            # gRPC does not retry a request larger than this. Its default of 256 KiB is less than a
            # normalised image.
            ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        ]
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def client_error(error: grpc.RpcError, server: str, model: str) -> ClientError:
    """An error of gRPC as a `ClientError`."""
    code: Any = error.code()
    return ClientError(Code(code.value[0]), error.details() or "", server, model)


def _check_address(server: str) -> None:
    """Checks an address, since gRPC reads a missing port as 443 and wraps one that is too large.

    Raises:
        ValueError: `server` is not an address; one line.
    """
    found = re.fullmatch(r"(?!https?:)\S+:(\d+)", server)
    if not server.startswith("unix:") and (found is None or int(found[1]) > 65535):
        raise ValueError(f"{server!r}: not an address; expected host:port, such as {SERVER}")


def _read(path: pathlib.Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        # An error of reading does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from None
