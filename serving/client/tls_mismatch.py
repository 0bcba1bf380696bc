"""Finds out whether a server that cannot be reached has another idea of TLS than the client.

gRPC reports the last address that it tried, for example "Connection refused" of IPv6, also where a
server at another address refused the client's certificate.
"""

import contextlib
import socket
import ssl
import time

from .channels import Tls

SECONDS = 3.0
"""The longest time that `explain` takes."""

# What an HTTP/2 client sends first, so that a server has something to answer.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
# Certificates that a server did not accept, by the names of alerts in OpenSSL's messages.
_REFUSED = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")


def explain(server: str, tls: Tls | None, seconds: float = SECONDS) -> str | None:
    """Why no call reaches a server, if the reason is TLS.

    Args:
        server: address of the server, `host:port` or `unix:path`.
        tls: the client's files; None is no TLS.
        seconds: how long this may take.

    Returns:
        One line, or None if the reason is another one.
    """
    end = time.monotonic() + seconds
    for family, address in _addresses(server):
        reason = _reason(family, address, server, tls, end)
        if reason is not None:
            return reason
    return None


def _addresses(server: str) -> list[tuple[int, object]]:
    if server.startswith("unix:"):
        return [(socket.AF_UNIX, server.removeprefix("unix:"))]
    host, _, port = server.rpartition(":")
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]
    return []


def _reason(family: int, address: object, server: str, tls: Tls | None, end: float) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(max(0.1, end - time.monotonic()))
            connection.connect(address)  # type: ignore[arg-type]
            if tls is None:
                return _without_tls(connection)
            return _with_tls(connection, server, tls)
    except (OSError, ValueError):
        # No server is there, or it does not answer.
        return None


def _without_tls(connection: socket.socket) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(connection):
        return "the server has TLS and this client does not; expected tls=Tls(...), or --tls"


def _with_tls(connection: socket.socket, server: str, tls: Tls) -> str | None:
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["h2"])
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(tls.cert, tls.key, password="")
    name = tls.server_name or ("localhost" if server.startswith("unix:") else _host(server))
    try:
        with context.wrap_socket(connection, server_hostname=name) as encrypted:
            # With TLS 1.3 a server says only now what it thinks of the client's certificate: some
            # send an alert, and gRPC closes the connection.
            encrypted.sendall(_PREFACE)
            if not encrypted.recv(1):
                return _certificate_refused(tls)
    except ConnectionResetError:
        return _certificate_refused(tls)
    except ssl.SSLCertVerificationError as error:
        what = f"the server's certificate is not accepted ({error.verify_message})"
        if "ostname" in error.verify_message or "IP address" in error.verify_message:
            return f"{what}; expected one for {name}, or Tls(server_name=...), --tls_server_name"
        if tls.ca is not None:
            return f"{what}; expected one that {tls.ca} has signed"
        return (
            f"{what}; expected one that an authority of the system has signed, or that authority's "
            "certificate as Tls(ca=...), --ca"
        )
    except ssl.SSLError as error:
        text = str(error).upper()
        if any(alert in text for alert in _REFUSED):
            return _certificate_refused(tls)
        if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text or "UNEXPECTED_EOF" in text:
            return "this client has TLS and the server does not; expected no tls, no --tls"
    return None


def _certificate_refused(tls: Tls) -> str:
    shown = "this client has none" if tls.cert is None else f"this is {tls.cert}"
    return (
        "the server ends the connection after the handshake, as one does that wants another "
        f"client's certificate; {shown}; expected --cert and --key of a client that it accepts"
    )


def _host(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")
