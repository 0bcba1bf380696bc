"""The versions of one model: loaded, served, counted, dropped.

As TF Serving's `AspiredVersionsManager` with `AvailabilityPreservingPolicy`: a new version is
loaded before the old one is dropped, one that fails to load leaves the old one serving, and one
that is dropped is unloaded when the last request on it has been answered.

A version that is wanted again while it is on its way out has to be gone first, and until then
nothing of what is wanted is done. So where version 2 fails to load and is withdrawn, and version 1,
which is to go and serves on for want of 2, is wanted again, that waits without end: 2 counts as
wanted still, and is not tried again when it comes back whole. One of another number ends that.
"""

import contextlib
import dataclasses
import enum
import logging
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping

from ...errors import ServingError, error_from, not_found
from .servable import Loader, Servable

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """`ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a failed load is tried again, and seconds between (none if negative)."""

    number: int = 5
    interval: float = 60.0


@dataclasses.dataclass(frozen=True)
class Status:
    """Where a version is; `error` is why its load failed."""

    state: State
    error: ServingError | None = None


@dataclasses.dataclass(frozen=True)
class Handle:
    """A version in use by a request."""

    version: int
    servable: Servable


@dataclasses.dataclass(eq=False)
class _Version:
    number: int
    path: pathlib.Path
    aspired: bool = True
    state: State = State.START
    failed: bool = False
    servable: Servable | None = None
    users: int = 0
    # Set when the version is no longer wanted: a load that failed is then not tried again.
    unwanted: threading.Event = dataclasses.field(default_factory=threading.Event)


class VersionManager:
    """Keeps the versions of one model as they are wanted, in a thread of its own.

    Args:
        model: the model's name.
        loader: loads a version.
        retries: of a load that fails.
    """

    def __init__(self, model: str, loader: Loader, retries: Retries) -> None:
        self._model = model
        self._loader = loader
        self._retries = retries
        self._changed = threading.Condition()
        # What is wanted by the last call of `want`, if that waits.
        self._pending: dict[int, pathlib.Path] | None = None
        self._live: dict[int, _Version] = {}
        self._statuses: dict[int, Status] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"versions-{model}", daemon=True)
        self._thread.start()

    def want(self, versions: Mapping[int, pathlib.Path]) -> None:
        """Says which versions are to be served. Returns at once."""
        with self._changed:
            self._pending = dict(versions)
            self._compare()

    @contextlib.contextmanager
    def handle(self, version: int | None) -> Iterator[Handle]:
        """An available version, kept loaded while it is used.

        Args:
            version: its number; None is the latest one that is available.

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._changed:
            number = version if version is not None else self._latest()
            used = self._live.get(number) if number is not None else None
            if used is None or used.state != State.AVAILABLE or used.servable is None:
                raise servable_not_found(self._model, version)
            used.users += 1
        try:
            yield Handle(used.number, used.servable)
        finally:
            with self._changed:
                used.users -= 1
                if not used.users:
                    self._changed.notify_all()

    def statuses(self) -> dict[int, Status]:
        """Every version that there has been since the start, the latest first."""
        with self._changed:
            return dict(sorted(self._statuses.items(), reverse=True))

    def wait(self, timeout: float | None) -> bool:
        """Waits until a version that is wanted is available, or one has failed.

        Returns:
            Whether it came to that within `timeout` seconds. Without any version it does not.
        """
        with self._changed:
            return self._changed.wait_for(self._settled, timeout)

    def available(self) -> bool:
        """Whether any version is available."""
        with self._changed:
            return self._latest() is not None

    def stop(self, timeout: float) -> bool:
        """Drops every version and ends the thread.

        Returns:
            Whether all were unloaded within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        with self._changed:
            self._pending = {}
            self._compare()
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _latest(self) -> int | None:
        available = (live.number for live in self._live.values() if live.state == State.AVAILABLE)
        return max(available, default=None)

    def _settled(self) -> bool:
        if self._pending is not None:
            return False
        return any(
            version.aspired and (version.failed or version.state == State.AVAILABLE)
            for version in self._live.values()
        )

    def _compare(self) -> None:
        """Takes what is wanted over, unless a version has to go first. Holds the lock."""
        wanted = self._pending
        if wanted is None or any(
            number in wanted and not live.aspired for number, live in self._live.items()
        ):
            return
        self._pending = None
        for live in list(self._live.values()):
            if live.number in wanted:
                continue
            live.aspired = False
            live.unwanted.set()
            if live.state == State.START or live.failed:
                self._set(live, State.END, self._statuses[live.number].error)
                del self._live[live.number]
        for number, path in wanted.items():
            if number not in self._live:
                live = self._live[number] = _Version(number, path)
                self._set(live, State.START)
        self._changed.notify_all()

    def _set(self, live: _Version, state: State, error: ServingError | None = None) -> None:
        live.state = state
        self._statuses[live.number] = Status(state, error)
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                chosen = self._next()
                while chosen is None:
                    if self._stopping and not self._live:
                        return
                    self._changed.wait()
                    chosen = self._next()
                if chosen.state == State.AVAILABLE:
                    self._set(chosen, State.UNLOADING)
                    continue
                if chosen.state == State.START:
                    self._set(chosen, State.LOADING)
            if chosen.state == State.LOADING:
                self._load(chosen)
            else:
                self._close(chosen)

    def _next(self) -> _Version | None:
        """The version to do something about: close, drop or load, in this order."""
        live = list(self._live.values())
        for version in live:
            if version.state == State.UNLOADING and not version.users:
                return version
        dropped = [v for v in live if v.state == State.AVAILABLE and not v.aspired]
        aspired = [v for v in live if v.aspired]
        served = any(v.state == State.AVAILABLE for v in aspired)
        if dropped and (not aspired or served or len(dropped) > 1):
            return min(dropped, key=lambda version: version.number)
        new = [v for v in aspired if v.state == State.START]
        return max(new, key=lambda version: version.number, default=None)

    def _load(self, version: _Version) -> None:
        error: ServingError | None = None
        for attempt in range(1 + self._retries.number):
            if attempt and version.unwanted.wait(max(0.0, self._retries.interval)):
                break
            try:
                servable = self._loader(version.path)
            except Exception as failure:
                error = error_from(failure)
                # A traceback would hold what was loaded so far for as long as the error is kept.
                error.__traceback__ = error.__cause__ = error.__context__ = None
                _log.error("%s version %d: load failed: %s", self._model, version.number, error)
                continue
            with self._changed:
                version.servable = servable
                self._set(version, State.AVAILABLE)
            _log.info("%s version %d is available", self._model, version.number)
            return
        with self._changed:
            version.failed = True
            self._set(version, State.END, error)
            if not version.aspired:
                del self._live[version.number]
                self._compare()

    def _close(self, version: _Version) -> None:
        servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        _log.info("%s version %d is unloaded", self._model, version.number)
        with self._changed:
            self._set(version, State.END)
            del self._live[version.number]
            self._compare()


def servable_not_found(model: str, version: int | None) -> ServingError:
    """NOT_FOUND, in the words of `ServableRequest::DebugString`."""
    request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return not_found(f"Servable not found for request: {request}")
