"""The gRPC server: the function that answers each method, and the status of errors."""

import importlib.util
import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message import DecodeError, EncodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from ..errors import Code, ServingError, cut, error_from, not_serialisable
from .calls.classify import CLASSIFY
from .calls.metadata import get_model_metadata
from .calls.model_service import get_model_status, handle_reload_config
from .calls.multi_inference import multi_inference
from .calls.predict import predict
from .calls.regress import REGRESS
from .reload_access import ReloadAccess
from .servables.core import ServerCore

_log = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

Call = Callable[[ServerCore, Any, float | None], Message]
Observer = Callable[[str, Any, Code, float], None]
"""Called after every call with its method, its request, its code and its seconds."""

_CALLS: dict[str, dict[str, tuple[type[Message], Call]]] = {
    PREDICTION_SERVICE: {
        "Predict": (predict_pb2.PredictRequest, predict),
        "Classify": (classification_pb2.ClassificationRequest, CLASSIFY.answer),
        "Regress": (regression_pb2.RegressionRequest, REGRESS.answer),
        "MultiInference": (inference_pb2.MultiInferenceRequest, multi_inference),
        "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, get_model_metadata),
    },
    MODEL_SERVICE: {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            handle_reload_config,
        ),
    },
}

_STATUS_CODES = {status.value[0]: status for status in grpc.StatusCode}

_CHANNEL_ARGUMENTS: dict[str, int | str] = {
    # The real server accepts messages up to the largest int32.
    "grpc.max_receive_message_length": 2**31 - 1,
    "grpc.max_send_message_length": 2**31 - 1,
    # Without this, two servers on one port would each get half of the calls.
    "grpc.so_reuseport": 0,
}
# A call without a deadline has one many years away.
_NO_DEADLINE = 10.0 * 365 * 24 * 3600


class GrpcServer:
    """A gRPC server.

    Args:
        core: the models.
        threads: number of calls answered at a time.
        channel_arguments: options of gRPC, from `--grpc_channel_arguments`.
        observer: called after every call.
        reload_access: which HandleReloadConfigRequest calls are let in; by default all, a few at a
            time, as no thread that waits for models answers other calls.
    """

    def __init__(
        self,
        core: ServerCore,
        threads: int,
        channel_arguments: tuple[tuple[str, int | str], ...] = (),
        observer: Observer | None = None,
        reload_access: ReloadAccess | None = None,
    ) -> None:
        self._core = core
        self._reload_access = reload_access or ReloadAccess(most=most_reloads(threads))
        self._observer = observer
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            # gRPC takes the first of two equal names, so duplicates are merged here.
            options=tuple({**_CHANNEL_ARGUMENTS, **dict(channel_arguments)}.items()),
        )
        for service, calls in _CALLS.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(self._handler(name, *call))
                for name, call in calls.items()
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        self._health = _add_health(self._server)
        _add_reflection(self._server, self._health is not None)

    def listen(self, address: str, credentials: Any = None) -> int:
        """Adds an address and returns its port.

        Args:
            address: `host:port`, with port 0 for a free one, or `unix:path`.
            credentials: TLS credentials; None is no encryption.

        Raises:
            ServingError: UNAVAILABLE, the address cannot be used.
        """
        try:
            port: int = (
                self._server.add_insecure_port(address)
                if credentials is None
                else self._server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise ServingError(Code.UNAVAILABLE, f"cannot listen on {address}") from error
        return port

    def start(self) -> None:
        """Begins to answer calls."""
        self._server.start()
        if self._health is not None:
            self._health.set_serving(True)

    def stop(self, grace: float) -> bool:
        """Refuses new calls and waits for those in flight.

        Returns:
            Whether all were answered within `grace` seconds; the others were cancelled.
        """
        if self._health is not None:
            self._health.set_serving(False)
        start = time.monotonic()
        self._server.stop(grace).wait()
        return time.monotonic() - start < grace

    def _run(self, call: Call, request: Any, context: Any) -> Message:
        timeout = _time_left(context)
        if call is not handle_reload_config:
            return call(self._core, request, timeout)
        with self._reload_access.entered(context):
            return handle_reload_config(
                self._core, request, timeout, lambda: not context.is_active()
            )

    def _handler(
        self, name: str, request_type: type[Message], call: Call
    ) -> Callable[[bytes, Any], bytes]:
        """A handler of bytes, so that it can answer a request that cannot be parsed."""

        def answer(data: bytes, context: Any) -> bytes:
            start = time.perf_counter()
            request, reply, error = None, b"", None
            try:
                _time_left(context)
                request = _parsed(request_type, data)
                # Reading a large message takes time of the call too.
                reply = _serialised(self._run(call, request, context))
            except ServingError as failure:
                error = failure
            except Exception as failure:
                _log.exception("%s failed", name)
                error = error_from(failure)
            if self._observer is not None:
                code = error.code if error is not None else Code.OK
                self._observer(name, request, code, time.perf_counter() - start)
            if error is not None:
                context.abort(_STATUS_CODES[int(error.code)], cut(error.message))
            return reply

        return answer


def most_reloads(threads: int) -> int:
    """The number of HandleReloadConfigRequest calls that may wait, of so many threads."""
    return max(1, threads // 2)


def _parsed(request_type: type[Message], data: bytes) -> Message:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        raise ServingError(
            Code.INTERNAL, f"Failed to parse the request as {request_type.__name__}"
        ) from error


def _serialised(reply: Message) -> bytes:
    try:
        data: bytes = reply.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise not_serialisable() from error
    return data


def _time_left(context: Any) -> float | None:
    """Seconds until a call's deadline; None is no limit.

    Raises:
        ServingError: CANCELLED or DEADLINE_EXCEEDED, nobody waits for the answer any more. gRPC
            drops cancelled calls that wait for a thread, but not in the moment of handing over.
    """
    if not context.is_active():
        raise ServingError(Code.CANCELLED, "The call was cancelled before it was run")
    remaining: float | None = context.time_remaining()
    if remaining is None or remaining > _NO_DEADLINE:
        return None
    if remaining <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "The deadline passed before the call was run")
    return remaining


class _Health:
    """gRPC health checking, for the whole server (`""`) and for each service."""

    def __init__(self, server: Any) -> None:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        self._states = health_pb2.HealthCheckResponse
        self._servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self.set_serving(False)

    def set_serving(self, serving: bool) -> None:
        state = self._states.SERVING if serving else self._states.NOT_SERVING
        for service in ("", *_CALLS):
            self._servicer.set(service, state)


def _add_health(server: Any) -> _Health | None:
    """Adds health checking where the package grpcio-health-checking is installed."""
    return _Health(server) if importlib.util.find_spec("grpc_health") else None


def _add_reflection(server: Any, health: bool) -> None:
    """Adds server reflection where the package grpcio-reflection is installed."""
    if importlib.util.find_spec("grpc_reflection"):
        from grpc_reflection.v1alpha import reflection

        names = [*_CALLS, reflection.SERVICE_NAME]
        if health:
            names.append("grpc.health.v1.Health")
        # The modules of these stubs register the descriptions of the services.
        importlib.import_module("tensorflow_serving.apis.prediction_service_pb2")
        importlib.import_module("tensorflow_serving.apis.model_service_pb2")
        reflection.enable_server_reflection(names, server)
