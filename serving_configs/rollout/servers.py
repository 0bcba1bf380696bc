"""Reloading the config of running servers, in steps that no server refuses.

A server checks labels before it loads anything, and refuses to move a label to a version that is
not AVAILABLE. So a change has three steps: load the new versions, move the labels, unload the
versions that are no longer named. The first step starts from the labels that the server has, not
from a file that it may have refused.
"""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from ..errors import ConfigError
from ..server.models_config import find_model, labels_of, set_labels, set_versions, versions_of

_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_END = get_model_status_pb2.ModelVersionStatus.END
_POLL = 0.2
_CALL_TIMEOUT = 60.0
_NOT_LOADED = "Servable not found for request: Specific("


class Server:
    """A running server.

    Args:
        address: HOST:PORT of its gRPC API.
        seconds: how long a load may take.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._channel = grpc.insecure_channel(address)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def reload(self, config: ModelServerConfig) -> None:
        """Reloads the server's config.

        Raises:
            ConfigError: the server cannot be reached or refuses the config.
        """
        request = model_management_pb2.ReloadConfigRequest(config=config)
        try:
            # The call returns when new models have loaded.
            response = self._models.HandleReloadConfigRequest(
                request, timeout=self._seconds, wait_for_ready=False
            )
        except grpc.RpcError as error:
            raise self._failed(error) from None
        if response.status.error_code:
            raise ConfigError(f"server {self._address}: {response.status.error_message}")

    def labels(self, model: str, candidates: Iterable[str]) -> dict[str, int]:
        """The labels of a model on the server -> their versions.

        No call of TF Serving lists them. A call with a label answers with its version, also where
        that is not loaded.

        Args:
            model: the model's name.
            candidates: the labels that the server may have.

        Raises:
            ConfigError: the server cannot be reached.
        """
        found = {}
        for label in candidates:
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                metadata_field=["signature_def"]
            )
            request.model_spec.name = model
            request.model_spec.version_label = label
            try:
                reply = self._predictions.GetModelMetadata(request, timeout=_CALL_TIMEOUT)
                found[label] = reply.model_spec.version.value
            except grpc.RpcError as error:
                details = str(error.details())
                if error.code() == grpc.StatusCode.NOT_FOUND and _NOT_LOADED in details:
                    found[label] = int(details.rpartition(", ")[2].rstrip(")"))
                elif error.code() not in (
                    grpc.StatusCode.INVALID_ARGUMENT,  # It has no such label.
                    grpc.StatusCode.NOT_FOUND,  # It has no such model.
                ):
                    raise self._failed(error) from None
        return found

    def available(self, model: str, needed: Iterable[int] = ()) -> set[int]:
        """The versions of a model that are AVAILABLE.

        Args:
            model: the model's name.
            needed: versions whose load must not have failed.

        Raises:
            ConfigError: the server cannot be reached, or the load of a needed version failed.
        """
        statuses = self._statuses(model)
        for entry in statuses:
            failed = entry.state == _END and entry.status.error_code
            if entry.version in needed and failed:
                raise ConfigError(
                    f"server {self._address}: {model} version {entry.version} does not load: "
                    f"{entry.status.error_message}"
                )
        return {entry.version for entry in statuses if entry.state == _AVAILABLE}

    def states(self, model: str) -> dict[int, str]:
        """The versions of a model that the server has or had -> the names of their states.

        Raises:
            ConfigError: the server cannot be reached.
        """
        named = get_model_status_pb2.ModelVersionStatus.State.Name
        return {entry.version: named(entry.state) for entry in self._statuses(model)}

    def wait_until_available(self, model: str, needed: Iterable[int]) -> None:
        """Waits until versions of a model are AVAILABLE.

        Raises:
            ConfigError: the load of one failed or took too long.
        """
        end = time.monotonic() + self._seconds
        expected = set(needed)
        while missing := expected - self.available(model, expected):
            if time.monotonic() > end:
                raise ConfigError(
                    f"server {self._address}: {model} has not loaded version {min(missing)} within "
                    f"{self._seconds:.0f} s"
                )
            time.sleep(_POLL)

    def _statuses(self, model: str) -> Sequence[Any]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self._models.GetModelStatus(request, timeout=_CALL_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return ()  # It has not polled the base path yet.
            raise self._failed(error) from None
        found: Sequence[Any] = response.model_version_status
        return found

    def _failed(self, error: grpc.RpcError) -> ConfigError:
        details = " ".join(str(error.details()).split())
        return ConfigError(f"server {self._address}: {error.code().name}: {details}")


class Update:
    """A change of one model's labels on one server.

    Args:
        server: the server.
        old: models.config before the change.
        new: models.config after it.
        model: the model whose labels change. Labels of other models, which the server may not have
            read from the file yet, move where it does not refuse that.

    Raises:
        ConfigError: the server cannot be reached.
    """

    def __init__(
        self, server: Server, old: ModelServerConfig, new: ModelServerConfig, model: str
    ) -> None:
        self._server = server
        self._new = new
        self._model = model
        before = {entry.name: entry for entry in old.model_config_list.config}
        self._labels = {
            entry.name: server.labels(entry.name, _candidates(entry, before.get(entry.name)))
            for entry in new.model_config_list.config
        }
        self._before = _add_loaded(old, {}, self._labels)
        self._loaded = _add_loaded(new, before, self._labels)

    def load(self) -> None:
        """The first step: the server loads the new versions; its versions and labels stay."""
        self._server.reload(self._loaded)

    def wait(self) -> None:
        """Waits until every version that the model's new labels name is AVAILABLE."""
        needed = labels_of(find_model(self._new, self._model)).values()
        self._server.wait_until_available(self._model, needed)

    def label(self) -> None:
        """The second step: the labels move."""
        self._server.reload(self._move_labels(self._loaded))

    def drop(self) -> None:
        """The third step: the server unloads the versions that are no longer named."""
        self._server.reload(self._move_labels(_add_loaded(self._new, {}, {})))

    def undo(self) -> None:
        """Reloads the config from before the first step, if the server answers."""
        try:
            self._server.reload(self._before)
        except ConfigError:
            # The caller reports the first error.
            return

    def _move_labels(self, config: ModelServerConfig) -> ModelServerConfig:
        """A copy of a config with the new labels, except moves that the server would refuse."""
        updated = copy.deepcopy(config)
        for entry in updated.model_config_list.config:
            labels, current = labels_of(find_model(self._new, entry.name)), self._labels[entry.name]
            if entry.name != self._model and labels != current:
                available = self._server.available(entry.name)
                for label, version in labels.items():
                    if version not in available:
                        labels[label] = current.get(label, version)
            set_labels(entry, labels)
            set_versions(entry, [*versions_of(entry), *labels.values()])
        return updated


def update_servers(
    servers: Sequence[Server], old: ModelServerConfig, new: ModelServerConfig, model: str
) -> list[Update]:
    """Does the first two steps, each on all servers before the next.

    When a server fails, all of them return to the config from before.

    Args:
        servers: the servers.
        old: models.config before the change.
        new: models.config after it.
        model: the model whose labels change.

    Returns:
        The updates, for the third step once the file is written.

    Raises:
        ConfigError: a server cannot be reached, refuses a config, or cannot load a version.
    """
    updates = [Update(server, old, new, model) for server in servers]
    try:
        for update in updates:
            update.load()
        for update in updates:
            update.wait()
        for update in updates:
            update.label()
    except ConfigError:
        for update in updates:
            update.undo()
        raise
    return updates


def _candidates(*entries: ModelConfig | None) -> list[str]:
    """The labels that a server can have from these entries."""
    return sorted({label for entry in entries if entry is not None for label in labels_of(entry)})


def _add_loaded(
    config: ModelServerConfig,
    before: Mapping[str, ModelConfig],
    labels: Mapping[str, Mapping[str, int]],
) -> ModelServerConfig:
    """A copy of a config with these labels, which loads their versions and those of `before`."""
    updated = copy.deepcopy(config)
    for entry in updated.model_config_list.config:
        current = labels.get(entry.name, {})
        loaded = versions_of(before[entry.name]) if entry.name in before else []
        set_versions(entry, [*loaded, *versions_of(entry), *current.values()])
        set_labels(entry, current)
    return updated
