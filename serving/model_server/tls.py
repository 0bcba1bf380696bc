"""TLS of the server: `--ssl_config_file`, an `SSLConfig` as text, with the PEM text in it.

tensorflow-serving-api does not carry the message, so it is made here, in a pool of its own.

Source: `ssl_config.proto`, and `BuildServerCredentialsFromSSLConfigFile` in server.cc, of
tensorflow/serving.
"""

import ssl
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from signatures.quiet import hidden_native_stderr

from ..errors import invalid_argument
from ..text_proto import read_text_proto

_FIELDS = {
    "server_key": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "server_cert": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "custom_ca": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "client_verify": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
}


def read_credentials(path: str) -> Any:
    """The credentials of a server.

    `server_key` and `server_cert` are its own. With `client_verify` a client needs a certificate
    that `custom_ca` has signed; without it clients are not asked for one.

    Raises:
        ServingError: the file cannot be read, or is not an `SSLConfig`, or what is in it is not
            what it should be. The real server ends in the same cases, or serves nobody.
    """
    config = read_text_proto(path, _message_class()())
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
    if not _taken(credentials):
        raise invalid_argument(
            f"{path}: server_key and server_cert: not a private key and its certificate in PEM "
            "format"
        )
    return credentials


def _taken(credentials: Any) -> bool:
    """Whether gRPC can serve with them, which it says in no other way than by failing to listen."""
    with futures.ThreadPoolExecutor(1) as unused, hidden_native_stderr():
        server = grpc.server(unused)
        try:
            server.add_secure_port("127.0.0.1:0", credentials)
        except RuntimeError:
            return False
        finally:
            server.stop(None).wait()
    return True


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="ssl_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    message = file.message_type.add(name="SSLConfig")
    for number, (name, kind) in enumerate(_FIELDS.items(), 1):
        message.field.add(name=name, number=number, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.SSLConfig")
    )
