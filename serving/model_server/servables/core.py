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
from .servable import Loader
from .storage import chosen_versions, list_versions
from .versions import Handle, Retries, State, Status, VersionManager, servable_not_found

_log = logging.getLogger(__name__)

# How long a wait goes on before it looks whether it is still wanted.
_TICK = 0.1


@dataclasses.dataclass(frozen=True)
class CoreSettings:
    """What holds for all models.

    Attributes:
        poll_wait: seconds between looks at the base paths; 0 looks once, at the first config.
        retries: of a load that fails.
        labels_for_unavailable_models: a label may be new and name a version that is not there.
    """

    poll_wait: float = 1.0
    retries: Retries = dataclasses.field(default_factory=Retries)
    labels_for_unavailable_models: bool = False


class ServerCore:
    """What every API of the server asks for models. All methods may be called from any thread.

    Args:
        loader: loads a version from its directory.
        settings: what holds for all models.
    """

    def __init__(self, loader: Loader, settings: CoreSettings) -> None:
        self._loader = loader
        self._settings = settings
        # One config at a time; held while its models load.
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
        """Takes a config, the first or another, and waits until the models new in it are there.

        Labels are checked before anything is loaded. When a check fails, nothing changes. Where
        base paths are looked at once only, another config drops models and moves labels; nothing
        that is new in it is ever loaded, and the wait for that is in vain, as in TF Serving.

        Args:
            config: which models, where, which of their versions, and labels.
            timeout: seconds to wait; None is for ever, as a base path may come into being.
            cancelled: asked now and then; when it says so, the wait is over.

        Raises:
            ServingError: FAILED_PRECONDITION or INVALID_ARGUMENT, what is wrong with the config;
                UNKNOWN, a new model failed to load; DEADLINE_EXCEEDED.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if not self._config_lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
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
            spec: name, and a version, a label, or neither for the latest one.

        Raises:
            ServingError: INVALID_ARGUMENT, no name or an unknown label; NOT_FOUND.
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
        """Every version that a model has had, the latest first; none for an unknown model."""
        with self._lock:
            versions = self._models.get(model)
        return versions.statuses() if versions else {}

    def labels(self, model: str) -> dict[str, int]:
        """The labels of a model and the versions they name."""
        with self._lock:
            return dict(self._labels.get(model, {}))

    def poll(self) -> None:
        """Looks at every base path once. One that cannot be read keeps its versions.

        It is no other model's matter, whereas TF Serving then takes over nothing of what it saw.
        """
        with self._poll_lock:
            with self._lock:
                models = [(self._models[name], config) for name, config in self._configs.items()]
            for versions, config in models:
                try:
                    there = list_versions(config.name, pathlib.Path(config.base_path))
                except ServingError as error:
                    self._complain(config.name, error.message)
                    continue
                chosen = chosen_versions(there, config.model_version_policy)
                if chosen:
                    self._complaints.pop(config.name, None)
                else:
                    self._complain(
                        config.name,
                        f"No versions of servable {config.name} found under base path "
                        f"{config.base_path}. Did you forget to name your leaf directory as a "
                        "number (eg. '/1/')?",
                    )
                versions.want({number: there[number] for number in chosen})

    def stop(self, timeout: float = 10.0) -> bool:
        """Unloads everything.

        Returns:
            Whether that was done within `timeout` seconds.
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
                # Even where it may name a version that is not there, a label in use may not move.
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
        """Takes over a config that was checked; the names of the models that are new in it."""
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
            # The states of a model that is gone can still be asked for, as in TF Serving.
            for name in before.keys() - self._configs.keys():
                self._models[name].want({})
                self._complaints.pop(name, None)
            return [name for name in self._configs if name not in before]

    def _wait_for(self, names: list[str], end: float | None, cancelled: Callable[[], bool]) -> None:
        failed = []
        for name in names:
            with self._lock:
                versions = self._models[name]
            while not versions.wait(_TICK):
                if cancelled() or self._stopping.is_set():
                    raise ServingError(Code.CANCELLED, f"Model {name} was not waited for")
                if end is not None and time.monotonic() >= end:
                    raise ServingError(
                        Code.DEADLINE_EXCEEDED, f"Model {name} has no version that is available yet"
                    )
            # Of versions that load at the same time, the first one that is there or has failed
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
        """Logs what is wrong with a base path once, not at every look."""
        if self._complaints.get(model) != message:
            self._complaints[model] = message
            _log.warning("%s", message)

    def _poll_forever(self) -> None:
        while not self._stopping.wait(self._settings.poll_wait):
            try:
                self.poll()
            except Exception:
                # Whatever it was, the next look may go well; without one nothing new is served.
                _log.exception("The base paths could not be looked at")
