"""The versions of one model: loaded, served, counted and unloaded.

As TF Serving's `AspiredVersionsManager`. A version is unloaded when the last request on it has
been answered. A version that is aspired again while it is on its way out has to be unloaded first;
until then no new set of aspired versions takes effect.

As in TF Serving, that can take for ever. Version 2 fails to load and is withdrawn, and version 1,
no longer aspired, serves on in its place. If version 1 is aspired again, it has to be unloaded
first, but it stays, because version 2 still counts as aspired. Version 2 is not loaded again, even
if its files are repaired. A version of another number ends the wait.
"""

import contextlib
import dataclasses
import logging
import pathlib
import threading
from collections.abc import Iterator, Mapping

from ...errors import ServingError, error_from, not_found
from .policy import State, Version, next_version
from .servable import Loader, Servable

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a failed load is tried again, and the seconds between tries (negative: none)."""

    number: int = 5
    interval: float = 60.0


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of a version, and the error of its load if that failed."""

    state: State
    error: ServingError | None = None


@dataclasses.dataclass(frozen=True)
class Handle:
    """A version in use by a request."""

    version: int
    servable: Servable


class VersionManager:
    """Loads and unloads the versions of one model, in a thread that ends when none is left to do.

    Args:
        model: name of the model.
        loader: loads a version.
        retries: of a load that fails.
    """

    def __init__(self, model: str, loader: Loader, retries: Retries) -> None:
        self._model = model
        self._loader = loader
        self._retries = retries
        self._changed = threading.Condition()
        # Set by the last call of `set_aspired_versions`, until it takes effect.
        self._pending: dict[int, pathlib.Path] | None = None
        self._versions: dict[int, Version] = {}
        self._statuses: dict[int, Status] = {}
        self._stopping = False
        self._working = False

    def set_aspired_versions(self, aspired: Mapping[int, pathlib.Path]) -> None:
        """Sets which versions are to be served. Returns at once."""
        with self._changed:
            if not self._stopping:
                self._pending = dict(aspired)
                self._apply_aspired()

    @contextlib.contextmanager
    def handle(self, version: int | None) -> Iterator[Handle]:
        """An available version, kept loaded while it is used.

        Args:
            version: its number; None is the latest available version.

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._changed:
            number = version if version is not None else self._latest()
            used = self._versions.get(number) if number is not None else None
            if used is None or used.state != State.AVAILABLE or used.servable is None:
                raise servable_not_found(self._model, version)
            used.users += 1
        try:
            yield Handle(used.number, used.servable)
        finally:
            with self._changed:
                used.users -= 1
                if not used.users:
                    self._wake()

    def statuses(self) -> dict[int, Status]:
        """Every version since the start, the latest first."""
        with self._changed:
            return dict(sorted(self._statuses.items(), reverse=True))

    def wait(self, timeout: float | None) -> bool:
        """Waits until an aspired version is available or has failed.

        Returns:
            Whether that happened within `timeout` seconds. Without an aspired version it does not.
        """
        with self._changed:
            return self._changed.wait_for(self._settled, timeout)

    def available(self) -> bool:
        """Whether any version is available."""
        with self._changed:
            return self._latest() is not None

    def idle(self) -> bool:
        """Whether no version is loaded or being loaded, and none was to be."""
        with self._changed:
            return not self._versions and not self._working

    def stop(self, timeout: float) -> bool:
        """Unloads every version, and loads no more.

        Returns:
            Whether all were unloaded within `timeout` seconds.
        """
        with self._changed:
            self._pending = {}
            self._apply_aspired()
            self._stopping = True
            return self._changed.wait_for(lambda: not self._versions and not self._working, timeout)

    def _latest(self) -> int | None:
        available = (v.number for v in self._versions.values() if v.state == State.AVAILABLE)
        return max(available, default=None)

    def _settled(self) -> bool:
        return self._pending is None and any(
            version.aspired and (version.failed or version.state == State.AVAILABLE)
            for version in self._versions.values()
        )

    def _apply_aspired(self) -> None:
        """Applies the pending aspired versions, unless one of them has to be unloaded first.

        The caller holds the lock.
        """
        aspired = self._pending
        if aspired is None or any(
            number in aspired and not version.aspired for number, version in self._versions.items()
        ):
            return
        self._pending = None
        for version in list(self._versions.values()):
            if version.number not in aspired:
                self._withdraw(version)
        for number, path in aspired.items():
            if number not in self._versions:
                self._versions[number] = Version(number, path)
                self._set_state(self._versions[number], State.START)
        self._wake()

    def _withdraw(self, version: Version) -> None:
        version.aspired = False
        version.withdrawn.set()
        if version.state == State.START or version.failed:
            self._set_state(version, State.END, self._statuses[version.number].error)
            del self._versions[version.number]

    def _set_state(self, version: Version, state: State, error: ServingError | None = None) -> None:
        version.state = state
        self._statuses[version.number] = Status(state, error)
        self._changed.notify_all()

    def _wake(self) -> None:
        """Starts the thread where there is something for it to do. The caller holds the lock.

        A model without versions, such as one whose base path does not exist, has no thread. So a
        config of thousands of names takes no thousands of threads.
        """
        self._changed.notify_all()
        if not self._working and next_version(self._versions.values()) is not None:
            self._working = True
            name = f"versions-{self._model}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (version := self._next_to_load_or_close()) is not None:
            if version.state == State.LOADING:
                self._load(version)
            else:
                self._close(version)

    def _next_to_load_or_close(self) -> Version | None:
        """The next version to load or close; None ends the thread, until `_wake`."""
        with self._changed:
            while (version := next_version(self._versions.values())) is not None:
                if version.state == State.AVAILABLE:
                    self._set_state(version, State.UNLOADING)
                    continue
                if version.state == State.START:
                    self._set_state(version, State.LOADING)
                return version
            self._working = False
            self._changed.notify_all()
            return None

    def _load(self, version: Version) -> None:
        _log.info("%s version %d: loading from %s", self._model, version.number, version.path)
        loaded: Servable | ServingError = self._load_once(version)
        tries = 1
        while isinstance(loaded, ServingError) and tries <= self._retries.number:
            if version.withdrawn.wait(max(0.0, self._retries.interval)):
                break
            loaded = self._load_once(version)
            tries += 1
        with self._changed:
            if not isinstance(loaded, ServingError):
                version.servable = loaded
                self._set_state(version, State.AVAILABLE)
                _log.info("%s version %d is available", self._model, version.number)
                return
            version.failed = True
            self._set_state(version, State.END, loaded)
            if not version.aspired:
                del self._versions[version.number]
                self._apply_aspired()

    def _load_once(self, version: Version) -> Servable | ServingError:
        try:
            return self._loader(version.path)
        except Exception as failure:
            error = error_from(failure)
            # A kept traceback would keep what was loaded so far.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            _log.error("%s version %d: load failed: %s", self._model, version.number, error)
            return error

    def _close(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        _log.info("%s version %d is unloaded", self._model, version.number)
        with self._changed:
            self._set_state(version, State.END)
            del self._versions[version.number]
            self._apply_aspired()


def servable_not_found(model: str, version: int | None) -> ServingError:
    """NOT_FOUND, in the words of `ServableRequest::DebugString`."""
    request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return not_found(f"Servable not found for request: {request}")
