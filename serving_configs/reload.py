"""Handing a config to running servers, in an order that no server refuses.

A server checks labels before it loads anything, and a label in use may not move to a version that
is not loaded (tensorflow/serving issue 1608). So a change is made in three steps: load what is
new, move the labels, drop what is no longer wanted.
"""

import time
from collections.abc import Sequence

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .errors import ConfigError
from .models_config import labels_of, set_labels, set_versions, versions_of

_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_END = get_model_status_pb2.ModelVersionStatus.END
_POLL = 0.2
_CALL_TIMEOUT = 60.0


def steps(
    old: ModelServerConfig, new: ModelServerConfig
) -> tuple[ModelServerConfig, ModelServerConfig, ModelServerConfig]:
    """The configs on the way from one to another: loaded, labelled, dropped.

    Args:
        old: what servers have.
        new: what they are to have; the last of the three.
    """
    before = {model.name: model for model in old.model_config_list.config}
    loaded, labelled = ModelServerConfig(), ModelServerConfig()
    loaded.CopyFrom(new)
    for model in loaded.model_config_list.config:
        if model.name in before:
            known = before[model.name]
            set_versions(model, [*versions_of(known), *versions_of(model)])
            set_labels(model, labels_of(known))
        else:
            # No label can be on what is not there yet.
            set_labels(model, {})
    labelled.CopyFrom(loaded)
    for model, final in zip(
        labelled.model_config_list.config, new.model_config_list.config, strict=True
    ):
        set_labels(model, labels_of(final))
    return loaded, labelled, new


class Server:
    """The model service of a running server.

    Args:
        address: HOST:PORT of its gRPC API.
        seconds: how long its loads may take.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._channel = grpc.insecure_channel(address)
        self._stub = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def reload(self, config: ModelServerConfig) -> None:
        """Hands over a config.

        Raises:
            ConfigError: the server cannot be reached or refuses it.
        """
        request = model_management_pb2.ReloadConfigRequest(config=config)
        try:
            # The call returns when models that are new have loaded.
            response = self._stub.HandleReloadConfigRequest(
                request, timeout=self._seconds, wait_for_ready=False
            )
        except grpc.RpcError as error:
            raise self._failed(error) from None
        if response.status.error_code:
            raise ConfigError(f"server {self._address}: {response.status.error_message}")

    def wait_until_loaded(self, config: ModelServerConfig) -> None:
        """Waits until every version that a config names is AVAILABLE.

        Raises:
            ConfigError: one failed to load, or they took too long.
        """
        end = time.monotonic() + self._seconds
        for model in config.model_config_list.config:
            wanted = set(versions_of(model))
            while missing := wanted - self._available(model.name, wanted):
                if time.monotonic() > end:
                    raise ConfigError(
                        f"server {self._address}: {model.name} has not loaded version "
                        f"{min(missing)} within {self._seconds:.0f} s"
                    )
                time.sleep(_POLL)

    def _available(self, model: str, wanted: set[int]) -> set[int]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self._stub.GetModelStatus(request, timeout=_CALL_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return set()  # It has not looked at the base path yet.
            raise self._failed(error) from None
        for entry in response.model_version_status:
            failed = entry.state == _END and entry.status.error_code
            if entry.version in wanted and failed:
                raise ConfigError(
                    f"server {self._address}: {model} version {entry.version} does not load: "
                    f"{entry.status.error_message}"
                )
        return {
            entry.version for entry in response.model_version_status if entry.state == _AVAILABLE
        }

    def _failed(self, error: grpc.RpcError) -> ConfigError:
        details = " ".join(str(error.details()).split())
        return ConfigError(f"server {self._address}: {error.code().name}: {details}")


def load_and_label(
    servers: Sequence[Server], old: ModelServerConfig, new: ModelServerConfig
) -> None:
    """The first two steps on every server; each is done on all before the next.

    When a server does not load what is new, all of them get `old` back.

    Raises:
        ConfigError: what a server answered.
    """
    loaded, labelled, _ = steps(old, new)
    try:
        for server in servers:
            server.reload(loaded)
        for server in servers:
            server.wait_until_loaded(loaded)
        for server in servers:
            server.reload(labelled)
    except ConfigError:
        for server in servers:
            _give_back(server, old)
        raise


def _give_back(server: Server, config: ModelServerConfig) -> None:
    try:
        server.reload(config)
    except ConfigError:
        # It is the one that failed, or has gone as well; the first error is what is told.
        return
