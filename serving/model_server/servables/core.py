"""The models of a server, by name: their config, their labels and the polling of their paths.

Source: `server_core.cc` of tensorflow/serving's model_servers.
"""

import contextlib
import dataclasses
import logging
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from ...errors import Code, ServingError, failed_precondition, invalid_argument
from .config import check_config
from .policy import State
from .servable import Loader
from .storage import aspired_versions, list_versions
from .versions import Handle, Retries, Status, VersionManager, servable_not_found

_log = logging.getLogger(__name__)

# Seconds between checks whether a wait was cancelled.
_TICK = 0.1
# Models that are no longer in the config and whose statuses are kept.
_MOST_REMOVED = 1000


@dataclasses.dataclass(frozen=True)
class CoreSettings:
    """Settings of all models.

    Attributes:
        poll_wait: seconds between polls of the base paths; 0 polls once, at the first config.
        retries: of a load that fails.
        labels_for_unavailable_models: a new label may name a version that is not available.
    """

    poll_wait: float = 1.0
    retries: Retries = dataclasses.field(default_factory=Retries)
    labels_for_unavailable_models: bool = False


class ServerCore:
    """The models of a server, for all of its APIs. Threads may share it.

    Args:
        loader: loads a version from its directory.
        settings: settings of all models.
    """

    def __init__(self, loader: Loader, settings: CoreSettings) -> None:
        self._loader = loader
        self._settings = settings
        # Held while the models of a config load, so that one config loads at a time.
        self._config_lock = threading.Lock()
        self._config: ModelServerConfig | None = None
        # Guards the three below, which requests read.
        self._lock = threading.Lock()
        self._models: dict[str, VersionManager] = {}
        self._configs: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._poll_lock = threading.Lock()
        self._complaints: dict[str, str] = {}
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll_forever, name="poll", daemon=True)
        if settings.poll_wait > 0:
            self._poller.start()

    def reload(
        self,
        config: ModelServerConfig,
        timeout: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replaces the config and waits until its new models are available.

        Labels are checked before anything is loaded. A failed check changes nothing. Where base
        paths are polled only once, a later config removes models and moves labels but loads no new
        model, and the wait for a new one never succeeds, as in TF Serving.

        Args:
            config: models, their base paths, versions and labels.
            timeout: seconds to wait; None is no limit, since a base path may appear later.
            cancelled: called now and then; the wait ends when it returns True.

        Raises:
            ServingError: FAILED_PRECONDITION or INVALID_ARGUMENT, what is wrong with the config;
                UNKNOWN, a new model failed to load; DEADLINE_EXCEEDED.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._config_lock.acquire(timeout=_TICK):
            if cancelled() or self._stopping.is_set():
                raise ServingError(Code.CANCELLED, "The wait for another config was cancelled")
            if end is not None and time.monotonic() >= end:
                raise ServingError(Code.DEADLINE_EXCEEDED, "Another config is being loaded")
        try:
            check_config(config, self._config)
            labels = self._checked_labels(config)
            first = self._config is None
            new = self._replace(config, labels)
            if first or self._settings.poll_wait > 0:
                self.poll()
            self._wait_for(new, end, cancelled)
        finally:
            self._config_lock.release()

    @contextlib.contextmanager
    def handle(self, spec: model_pb2.ModelSpec) -> Iterator[Handle]:
        """The version that a request names, kept loaded while it is used.

        Args:
            spec: a model, and a version, a label, or neither for the latest version.

        Raises:
            ServingError: INVALID_ARGUMENT, a missing name or an unknown label; NOT_FOUND.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        with self._lock:
            model = self._models.get(spec.name)
            label = self._labels.get(spec.name, {}).get(spec.version_label)
        version: int | None = None
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            if label is None:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            version = label
        if model is None:
            raise servable_not_found(spec.name, version)
        with model.handle(version) as handle:
            yield handle

    def statuses(self, model: str) -> dict[int, Status]:
        """Every version that a model has had, the latest first; empty for an unknown model."""
        with self._lock:
            versions = self._models.get(model)
        return versions.statuses() if versions else {}

    def serves(self, model: str) -> bool:
        """Whether the config has a model."""
        with self._lock:
            return model in self._configs

    def labels(self, model: str) -> dict[str, int]:
        """The labels of a model and the versions they name."""
        with self._lock:
            return dict(self._labels.get(model, {}))

    def poll(self) -> None:
        """Reads every base path once. A model whose base path cannot be read keeps its versions.

        The other models are updated all the same; TF Serving updates no model then.
        """
        with self._poll_lock:
            with self._lock:
                models = [(self._models[name], config) for name, config in self._configs.items()]
            for manager, config in models:
                try:
                    found = list_versions(config.name, pathlib.Path(config.base_path))
                except ServingError as error:
                    self._complain(config.name, error.message)
                    continue
                aspired = aspired_versions(found, config.model_version_policy)
                if aspired:
                    self._complaints.pop(config.name, None)
                else:
                    self._complain(
                        config.name,
                        f"No versions of servable {config.name} found under base path "
                        f"{config.base_path}. Did you forget to name your leaf directory as a "
                        "number (eg. '/1/')?",
                    )
                manager.set_aspired_versions({number: found[number] for number in aspired})

    def stop(self, timeout: float = 10.0) -> bool:
        """Unloads all models.

        Returns:
            Whether all were unloaded within `timeout` seconds.
        """
        self._stopping.set()
        end = time.monotonic() + timeout
        if self._poller.is_alive():
            self._poller.join(timeout)
        with self._lock:
            models = list(self._models.values())
        return all([model.stop(max(0.0, end - time.monotonic())) for model in models])

    def _checked_labels(self, config: ModelServerConfig) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for model in config.model_config_list.config:
            states = self.statuses(model.name)
            now = self.labels(model.name)
            for label, version in model.version_labels.items():
                # A label in use may not move to an unavailable version, whatever the settings.
                free = (
                    self._settings.labels_for_unavailable_models
                    and now.get(label, version) == version
                )
                available = version in states and states[version].state == State.AVAILABLE
                if not free and not available:
                    raise failed_precondition(
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference"
                    )
                labels.setdefault(model.name, {})[label] = version
        return labels

    def _replace(self, config: ModelServerConfig, labels: dict[str, dict[str, int]]) -> list[str]:
        """Replaces the config with a checked one; returns the names of its new models."""
        copy = ModelServerConfig()
        copy.CopyFrom(config)
        with self._poll_lock, self._lock:
            before = self._configs
            self._configs = {model.name: model for model in copy.model_config_list.config}
            self._labels = labels
            self._config = copy
            for name in self._configs:
                if name not in self._models:
                    self._models[name] = VersionManager(name, self._loader, self._settings.retries)
            # A removed model keeps its statuses, as in TF Serving.
            for name in before.keys() - self._configs.keys():
                self._models[name].set_aspired_versions({})
                self._complaints.pop(name, None)
            self._forget_removed()
            return [name for name in self._configs if name not in before]

    def _forget_removed(self) -> None:
        """Drops models that are gone and never had a version, and the first of very many others.

        The caller holds the lock.
        """
        removed = [name for name in self._models if name not in self._configs]
        kept = [name for name in removed if self._models[name].statuses()][-_MOST_REMOVED:]
        for name in set(removed).difference(kept):
            if self._models[name].idle():
                del self._models[name]

    def _wait_for(self, names: list[str], end: float | None, cancelled: Callable[[], bool]) -> None:
        failed = []
        for name in names:
            with self._lock:
                versions = self._models[name]
            while not versions.wait(_TICK):
                if cancelled() or self._stopping.is_set():
                    raise ServingError(Code.CANCELLED, f"The wait for model {name} was cancelled")
                if end is not None and time.monotonic() >= end:
                    raise ServingError(
                        Code.DEADLINE_EXCEEDED, f"Model {name} has no version that is available yet"
                    )
            # Of versions that load at the same time, the first that is available or has failed
            # decides, as in TF Serving.
            if versions.available():
                continue
            failed += [
                f"{{{{name: {name} version: {number}}} due to error: {status.error}}}, "
                for number, status in versions.statuses().items()
                if status.error is not None
            ]
        if failed:
            raise ServingError(
                Code.UNKNOWN,
                f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}",
            )

    def _complain(self, model: str, message: str) -> None:
        """Logs a problem of a base path once, not at every poll."""
        if self._complaints.get(model) != message:
            self._complaints[model] = message
            _log.warning("%s", message)

    def _poll_forever(self) -> None:
        while not self._stopping.wait(self._settings.poll_wait):
            try:
                self.poll()
            except Exception:
                # The next poll may succeed.
                _log.exception("The poll of the base paths failed")
