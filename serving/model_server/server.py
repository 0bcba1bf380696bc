"""The server: models, gRPC, REST, batching and metrics put together."""

import ipaddress
import logging
import pathlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ServingError, invalid_argument
from .flags import Options

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving_configs.trust.keys import PublicKey

    from .batching.session import Batching
    from .monitoring import Metrics
    from .rest.server import RestServer
    from .servables.core import ServerCore
    from .tls import ServerTls

_log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds for the calls in flight on SIGTERM."""


class ModelServer:
    """A server with its models. TensorFlow has to be loaded before.

    Args:
        options: the flags.

    Raises:
        ServingError: the batching parameters, the TLS config, the monitoring config or the keys
            cannot be read or are wrong, or the flags do not fit them.
    """

    def __init__(self, options: Options) -> None:
        # These load TensorFlow, and the flags have to be checked before.
        from .grpc_server import GrpcServer, most_reloads
        from .loading import version_loader
        from .monitoring import Metrics
        from .reload_access import ReloadAccess
        from .servables.core import CoreSettings, ServerCore
        from .servables.servable import SessionSettings
        from .servables.versions import Retries

        self._options = options
        self._batching = _batching(options)
        tls = _tls(options)
        self._credentials = tls.credentials if tls is not None else None
        metrics = Metrics(lambda name: self.core.serves(name))
        self.core = ServerCore(
            version_loader(
                SessionSettings(*options.parallelism),
                options.enable_model_warmup,
                self._batching.wrap if self._batching is not None else None,
                metrics,
                _keys(options),
            ),
            CoreSettings(
                options.file_system_poll_wait_seconds,
                Retries(
                    options.max_num_load_retries, options.load_retry_interval_micros / 1_000_000
                ),
                options.allow_version_labels_for_unavailable_models,
            ),
        )
        self._grpc = GrpcServer(
            self.core,
            options.grpc_max_threads,
            options.grpc_channel_arguments,
            metrics.grpc_call,
            ReloadAccess(
                options.allow_reload,
                tls is not None and tls.client_verify,
                options.reload_client_names,
                most_reloads(options.grpc_max_threads),
            ),
        )
        self._rest = _rest(options, self.core, metrics)
        self._stopping = threading.Event()
        self._config_poller = threading.Thread(target=self._poll_config, name="config", daemon=True)

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> int:
        """Loads the models of the first config, then answers calls.

        Args:
            cancelled: called now and then while the models load; True ends the wait.

        Returns:
            The port of gRPC.

        Raises:
            ServingError: the config is wrong, a model failed to load, or an address is in use.
        """
        self.core.reload(self._read_config(), None, cancelled)
        options = self._options
        host = f"[{options.host}]" if ":" in options.host else options.host
        port = self._grpc.listen(f"{host}:{options.port}", self._credentials)
        if options.grpc_socket_path:
            self._grpc.listen(f"unix:{options.grpc_socket_path}", self._credentials)
        if self._rest is not None:
            self._rest.listen(options.host, options.rest_api_port)
        self._grpc.start()
        if self._rest is not None:
            self._rest.start()
        if options.model_config_file and options.model_config_file_poll_wait_seconds:
            self._config_poller.start()
        return port

    def stop(self, grace: float = GRACE) -> bool:
        """Refuses new calls, answers those in flight and unloads the models.

        Returns:
            Whether that was done in time.
        """
        self._stopping.set()
        if self._rest is not None:
            self._rest.begin_stop(grace)
        answered = self._grpc.stop(grace)
        if self._rest is not None:
            answered = self._rest.stop() and answered
        unloaded = self.core.stop()
        # Unloading waits for the queued requests, which need the threads of the batching.
        if unloaded and self._batching is not None:
            unloaded = self._batching.stop(GRACE)
        return unloaded and answered

    def _read_config(self) -> "ModelServerConfig":
        from .servables.config import models_config, read_config

        if self._options.model_config_file:
            return read_config(self._options.model_config_file)
        return models_config({self._options.model_name: self._options.model_base_path})

    def _poll_config(self) -> None:
        wait = self._options.model_config_file_poll_wait_seconds
        while not self._stopping.wait(wait):
            try:
                self.core.reload(self._read_config(), None, self._stopping.is_set)
            except ServingError as error:
                if not self._stopping.is_set():
                    _log.error("%s: %s", self._options.model_config_file, error)


def _batching(options: Options) -> "Batching | None":
    from .batching.parameters import BatchingParameters, read_batching_parameters
    from .batching.session import Batching

    if not options.enable_batching:
        return None
    if options.batching_parameters_file:
        common = read_batching_parameters(options.batching_parameters_file)
    else:
        common = BatchingParameters(thread_pool_name="model_server_batch_threads")
    return Batching(common, options.enable_per_model_batching_parameters)


def _rest(options: Options, core: "ServerCore", metrics: "Metrics") -> "RestServer | None":
    if not options.rest_api_port:
        return None
    from ..http_guard import LOOPBACK
    from .monitoring import metrics_path
    from .rest.api import RestApi
    from .rest.server import RestServer

    seconds = options.rest_api_timeout_in_ms / 1000
    path = metrics_path(options.monitoring_config_file)
    return RestServer(
        RestApi(core, seconds if seconds > 0 else None, metrics.rest_call),
        options.rest_api_num_threads,
        options.rest_api_enable_cors_support,
        (path, metrics.page) if path is not None else None,
        (*LOOPBACK, options.host) if _is_loopback(options.host) else None,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(options: Options) -> "tuple[PublicKey, ...]":
    """The keys whose signatures count; none where versions need no signature.

    Raises:
        ServingError: the file holds no keys.
    """
    if not options.require_signature:
        return ()
    from serving_configs.errors import ConfigError
    from serving_configs.trust.keys import read_public_keys

    try:
        return read_public_keys([pathlib.Path(options.require_signature)])
    except ConfigError as error:
        raise invalid_argument(f"--require_signature={error}") from None


def _tls(options: Options) -> "ServerTls | None":
    """TLS of gRPC; REST has no TLS, as in the real server.

    Raises:
        ServingError: the file is wrong, or clients of `--reload_clients` need no certificate.
    """
    from .tls import read_tls

    tls = read_tls(options.ssl_config_file) if options.ssl_config_file else None
    if options.reload_client_names and (tls is None or not tls.client_verify):
        raise invalid_argument(
            f"--reload_clients={options.reload_clients}: no client shows a certificate; expected "
            "an --ssl_config_file with client_verify"
        )
    return tls
