"""Handing a config to running servers, in steps that no server refuses.

A server checks labels before it loads anything, and a label that it has may not move to a version
that is not AVAILABLE. So a change is made in three steps: load what is new, move the labels, drop
what is no longer named. The first step is taken from what the server has, and not from a file that
it may have refused.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

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
    """A running server: its model service, and what it says of labels.

    Args:
        address: HOST:PORT of its gRPC API.
        seconds: how long its loads may take.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._channel = grpc.insecure_channel(address)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

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
            response = self._models.HandleReloadConfigRequest(
                request, timeout=self._seconds, wait_for_ready=False
            )
        except grpc.RpcError as error:
            raise self._failed(error) from None
        if response.status.error_code:
            raise ConfigError(f"server {self._address}: {response.status.error_message}")

    def labels(self, model: str, candidates: Iterable[str]) -> dict[str, int]:
        """The labels that the server has for a model, with their versions.

        No call of TF Serving lists them; one that names a label tells its version, also where that
        is not loaded.

        Args:
            model: the model's name.
            candidates: the labels that are asked for.

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
        """The versions of a model that answer calls.

        Args:
            model: the model's name.
            needed: versions whose load must not have failed.

        Raises:
            ConfigError: the server cannot be reached, or one that is needed failed to load.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self._models.GetModelStatus(request, timeout=_CALL_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return set()  # It has not looked at the base path yet.
            raise self._failed(error) from None
        for entry in response.model_version_status:
            failed = entry.state == _END and entry.status.error_code
            if entry.version in needed and failed:
                raise ConfigError(
                    f"server {self._address}: {model} version {entry.version} does not load: "
                    f"{entry.status.error_message}"
                )
        return {
            entry.version for entry in response.model_version_status if entry.state == _AVAILABLE
        }

    def wait_until_available(self, model: str, needed: Iterable[int]) -> None:
        """Waits until versions of a model answer calls.

        Raises:
            ConfigError: one failed to load, or they took too long.
        """
        end = time.monotonic() + self._seconds
        wanted = set(needed)
        while missing := wanted - self.available(model, wanted):
            if time.monotonic() > end:
                raise ConfigError(
                    f"server {self._address}: {model} has not loaded version {min(missing)} within "
                    f"{self._seconds:.0f} s"
                )
            time.sleep(_POLL)

    def _failed(self, error: grpc.RpcError) -> ConfigError:
        details = " ".join(str(error.details()).split())
        return ConfigError(f"server {self._address}: {error.code().name}: {details}")


class Update:
    """A change of one model's labels on one server.

    Args:
        server: the server.
        old: models.config so far.
        new: what it is to be.
        model: the model whose labels change. Labels of other models, which the server may not have
            taken from the file yet, move where that is legal.

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
        self._before = _loading(old, {}, self._labels)
        self._loaded = _loading(new, before, self._labels)

    def load(self) -> None:
        """The first step: the server loads what is new beside what it has; labels stay."""
        self._server.reload(self._loaded)

    def wait(self) -> None:
        """Waits until every version that a label of the model is to name answers calls."""
        needed = labels_of(find_model(self._new, self._model)).values()
        self._server.wait_until_available(self._model, needed)

    def label(self) -> None:
        """The second step: the labels move."""
        self._server.reload(self._with_new_labels(self._loaded))

    def drop(self) -> None:
        """The third step: versions that are no longer named go."""
        self._server.reload(self._with_new_labels(_loading(self._new, {}, {})))

    def undo(self) -> None:
        """Returns to what the server had before the first step, as far as it answers."""
        try:
            self._server.reload(self._before)
        except ConfigError:
            # It is the one that failed, or has gone as well; the first error is what is told.
            return

    def _with_new_labels(self, config: ModelServerConfig) -> ModelServerConfig:
        """A config with the labels of the new one, but for moves that the server would refuse."""
        updated = ModelServerConfig()
        updated.CopyFrom(config)
        for entry in updated.model_config_list.config:
            wanted, own = labels_of(find_model(self._new, entry.name)), self._labels[entry.name]
            if entry.name != self._model and wanted != own:
                available = self._server.available(entry.name)
                for label, version in wanted.items():
                    if version not in available:
                        wanted[label] = own.get(label, version)
            set_labels(entry, wanted)
            set_versions(entry, [*versions_of(entry), *wanted.values()])
        return updated


def update_servers(
    servers: Sequence[Server], old: ModelServerConfig, new: ModelServerConfig, model: str
) -> list[Update]:
    """The first two steps on every server; each is done on all before the next.

    When a server does not load what is new, all of them return to what they had.

    Args:
        servers: the servers.
        old: models.config so far.
        new: what it is to be.
        model: the model whose labels change.

    Returns:
        The updates, whose third step is to be done when the file is written.

    Raises:
        ConfigError: what a server answered.
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
    """The labels that a server can have from one of these entries."""
    return sorted({label for entry in entries if entry is not None for label in labels_of(entry)})


def _loading(
    config: ModelServerConfig,
    before: Mapping[str, ModelConfig],
    labels: Mapping[str, Mapping[str, int]],
) -> ModelServerConfig:
    """A config with these labels, and with the versions of `before` and of the labels too."""
    updated = ModelServerConfig()
    updated.CopyFrom(config)
    for entry in updated.model_config_list.config:
        own = labels.get(entry.name, {})
        known = versions_of(before[entry.name]) if entry.name in before else []
        set_versions(entry, [*known, *versions_of(entry), *own.values()])
        set_labels(entry, own)
    return updated
