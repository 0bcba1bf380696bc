"""TLS of the server: `--ssl_config_file`, the text of an `SSLConfig` that contains PEM text.

Source: `ssl_config.proto`, and `BuildServerCredentialsFromSSLConfigFile` in server.cc, of
tensorflow/serving.
"""

import dataclasses
import ssl
from concurrent import futures
from typing import Any

import grpc

from signatures.quiet import hidden_native_stderr

from ..errors import invalid_argument
from ..text_proto import message_class, read_text_proto

_SslConfig = message_class(
    "SSLConfig",
    """
    message SSLConfig {
      string server_key = 1;
      string server_cert = 2;
      string custom_ca = 3;
      bool client_verify = 4;
    }
    """,
)


@dataclasses.dataclass(frozen=True)
class ServerTls:
    """TLS of a server: its credentials for gRPC, and whether clients need a certificate."""

    credentials: Any
    client_verify: bool


def read_tls(path: str) -> ServerTls:
    """The TLS of a server.

    `server_key` and `server_cert` belong to the server. With `client_verify` a client needs a
    certificate that `custom_ca` has signed; otherwise it needs none.

    Raises:
        ServingError: the file cannot be read, is not an `SSLConfig`, or has malformed fields. The
            real server ends in the same cases, or refuses every connection.
    """
    config = read_text_proto(path, _SslConfig())
    for field in ("server_key", "server_cert"):
        if not getattr(config, field):
            raise invalid_argument(f"{path}: {field} is empty; the PEM text itself goes there")
    if config.client_verify and not config.custom_ca:
        raise invalid_argument(f"{path}: client_verify needs custom_ca, to verify clients by")
    if config.custom_ca:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError):
            raise invalid_argument(f"{path}: custom_ca: no certificates in PEM format") from None
    credentials = grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )
    if not _usable(credentials):
        raise invalid_argument(
            f"{path}: server_key and server_cert: not a private key and its certificate in PEM "
            "format"
        )
    return ServerTls(credentials, config.client_verify)


def _usable(credentials: Any) -> bool:
    """Whether gRPC can serve with the credentials, which it reports only on listening."""
    with futures.ThreadPoolExecutor(1) as unused, hidden_native_stderr():
        server = grpc.server(unused)
        try:
            server.add_secure_port("127.0.0.1:0", credentials)
        except RuntimeError:
            return False
        finally:
            server.stop(None).wait()
    return True
