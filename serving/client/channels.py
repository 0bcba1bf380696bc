"""How a client reaches a server: address, limits, retries and TLS, the same for every client.

Retries are gRPC's own, and of two kinds. A call that never reached a server, or that a server says
it did not start, is sent again by gRPC whatever the settings are. Beyond that, `RETRIES` lets
gRPC send a call again that ended UNAVAILABLE, which gRPC calls safe only for calls that may run
twice: the calls listed there read a model and change nothing. No other status is retried: after
DEADLINE_EXCEEDED there is no time left, the rest would end the same way.

Sources: gRPC's "Status codes and their use", and proposal A6 (client retries).
"""

import dataclasses
import json
import pathlib
import re
import ssl
from typing import Any

import grpc

from ..errors import Code, ServingError

SERVER = "localhost:8500"
"""Where a server is if nothing else is said."""

TIMEOUT = 60.0
"""Seconds that a call has if nothing else is said."""

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
    # A server that refuses most calls is left alone by clients that have others to ask about.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
}

_UNLIMITED = -1


class ClientError(ServingError):
    """A call that failed.

    Attributes:
        code: the status code that the server, or gRPC, gave.
        message: the text that came with it.
        server: the address that was called.
        model: the model that was asked.
    """

    def __init__(self, code: Code, message: str, server: str, model: str) -> None:
        super().__init__(code, message)
        self.server = server
        self.model = model

    def __str__(self) -> str:
        """Which server and model, and what they said."""
        return f"{self.server}, model {self.model}: {super().__str__()}"


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files in PEM format with which a client trusts a server, and a server a client.

    Attributes:
        ca: certificates that the server's is to be signed by; none are those that gRPC brings.
        cert: the client's own certificate, for servers that verify clients; needs `key`.
        key: the private key of `cert`.
        server_name: the name that the server's certificate is to be for, if it is not that of the
            address.
    """

    ca: str | pathlib.Path | None = None
    cert: str | pathlib.Path | None = None
    key: str | pathlib.Path | None = None
    server_name: str | None = None

    def credentials(self) -> Any:
        """Reads the files.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is not what it should be; one line.
        """
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client's certificate and its key are needed together")
        ca, cert, key = (
            None if path is None else pathlib.Path(path).read_bytes()
            for path in (self.ca, self.cert, self.key)
        )
        # gRPC itself takes anything, and then reaches no server.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise ValueError(f"{self.ca}: no certificates in PEM format") from None
        try:
            if self.cert is not None:
                # Of a key with a password gRPC could make nothing; without one it would be asked.
                context.load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError:
            raise ValueError(
                f"{self.cert}, {self.key}: not a certificate and its private key in PEM format"
            ) from None
        return grpc.ssl_channel_credentials(ca, key, cert)


def channel_options(server: str, tls: Tls | None, retries: bool) -> list[tuple[str, Any]]:
    """Options of a client's channel.

    Args:
        server: its address.
        tls: as the client has it.
        retries: whether `RETRIES` hold.

    Raises:
        ValueError: that is no address; one line.
    """
    _check_address(server)
    options: list[tuple[str, Any]] = [
        # gRPC's own limit for what is received, 4 MiB, is less than the attention of one block.
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", _UNLIMITED),
    ]
    if retries:
        options += [
            ("grpc.service_config", json.dumps(RETRIES)),
            # gRPC gives up on retrying a call that does not fit in here. Its default is 256 KiB,
            # which no normalised image does.
            ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        ]
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def client_error(error: grpc.RpcError, server: str, model: str) -> ClientError:
    """The error of gRPC as a client's."""
    code: Any = error.code()
    return ClientError(Code(code.value[0]), error.details() or "", server, model)


def _check_address(server: str) -> None:
    """Whether gRPC would take an address for what it was meant to be.

    It takes a port that is missing for 443, and one that is too large for another one.

    Raises:
        ValueError: it is not one; one line.
    """
    found = re.fullmatch(r"(?!https?:)\S+:(\d+)", server)
    if not server.startswith("unix:") and (found is None or int(found[1]) > 65535):
        raise ValueError(f"{server!r}: not an address; expected host:port, such as {SERVER}")
