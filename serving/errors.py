"""Errors of requests: a gRPC status code and a message, as TF Serving returns them."""

import enum

MESSAGE_LIMIT = 1024
"""TF Serving cuts longer messages (`ToGRPCStatus` in model_servers/grpc_status_util.cc)."""


class Code(enum.IntEnum):
    """Status codes, with the numbers of gRPC, TensorFlow and `StatusProto`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A failure with the code and the message for the client.

    Attributes:
        code: the status code.
        message: the whole text; see `cut`.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The status as TensorFlow prints it."""
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    """The error for a wrong request."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """The error for something that does not exist."""
    return ServingError(Code.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """The error for what the server's state does not allow."""
    return ServingError(Code.FAILED_PRECONDITION, message)


def not_serialisable() -> ServingError:
    """GRPC's error for too large a reply (`GenericSerialize` in grpcpp/impl/proto_utils.h)."""
    return ServingError(Code.INTERNAL, "Failed to serialize message")


def error_from(error: Exception) -> ServingError:
    """Converts any exception.

    An error of TensorFlow keeps its code and message, a MemoryError becomes RESOURCE_EXHAUSTED, and
    any other error UNKNOWN.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, f"out of memory: {error}")
    # A tf.errors.OpError, recognised by its attributes, so that this module needs no TensorFlow.
    code, message = getattr(error, "error_code", None), getattr(error, "message", None)
    if isinstance(code, int) and isinstance(message, str):
        return ServingError(Code(code), message)
    return ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")


def cut(message: str) -> str:
    """A message as clients receive it: at most `MESSAGE_LIMIT` characters and a mark."""
    return message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "...TRUNCATED"
