"""What servers that read models.config can have taken so far, and what they would refuse of it.

A server that polls sees the file as it is at that moment. It may have missed what the file said
before, and it may be behind: it has not looked yet, it starts or loads a model that is new to it
(it does not look at the file meanwhile), or it refuses the file until a version has loaded. So what
it has is one of the files of the last minutes. They are kept beside models.config, with the time
when each was replaced. A change is safe when no server refuses it for ever, whichever of those
files it has.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..server.models_config import labels_of, versions_of
from ..tree.atomic import write_atomically

_FORMAT = 1
# No server that polls has an older file, whatever the flags of a command say.
_KEPT_SECONDS = 7 * 86400.0


@dataclasses.dataclass(frozen=True)
class Polling:
    """How fast the servers that read the file follow it.

    Attributes:
        seconds: how often they look at it, at least; 0 when none does.
        load_seconds: how long a start or a load takes them, at most.
    """

    seconds: float
    load_seconds: float

    @property
    def lag(self) -> float:
        """Seconds after which no server has a file any longer that another has replaced."""
        # The second look is for one that was under way, and for a busy machine.
        return 2 * self.seconds + self.load_seconds if self.seconds else 0.0


@dataclasses.dataclass(frozen=True)
class ModelState:
    """What a config says of a model: the versions that a server loads, and label -> version."""

    versions: frozenset[int]
    labels: Mapping[str, int]


State = Mapping[str, ModelState]
"""What a server has that took a config: model -> its versions and labels."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A label that goes to a version from another one."""

    model: str
    label: str
    version: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file that servers could read.

    Attributes:
        state: what it says; None when that is not known.
        replaced: when another took its place, in seconds since 1970; None for the present one.
    """

    state: State | None
    replaced: float | None = None


@dataclasses.dataclass(frozen=True)
class History:
    """The files so far, the oldest first; the last one is the present one.

    Attributes:
        entries: the files; none before the first.
        left: model -> the version that a rollback left, which another rollback returns to.
        moved: model -> labels that have named more than one version.
    """

    entries: tuple[Entry, ...] = ()
    left: Mapping[str, int] = dataclasses.field(default_factory=dict)
    moved: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    def unsafe_moves(self, new: State, now: float, polling: Polling) -> dict[Move, float]:
        """The labels for whose sake a server could refuse a config for ever.

        Args:
            new: the config.
            now: the time, in seconds since 1970.
            polling: of the servers that read the file.

        Returns:
            Each with the seconds until no server can have such a file any longer. They are
            infinite where the present file does not name the version for servers to load.
        """
        unsafe: dict[Move, float] = {}
        if not polling.seconds:
            return unsafe
        for entry in self.entries:
            left = math.inf if entry.replaced is None else entry.replaced + polling.lag - now
            if left > 0:
                for move in self._never_loaded(entry, new):
                    unsafe[move] = max(left, unsafe.get(move, 0.0))
        return unsafe

    def followed_by(self, new: State, now: float) -> "History":
        """The history once another file takes the place of the present one.

        The same file again, as after a command that changes nothing, leaves it as it is.
        """
        if not self.entries:
            return dataclasses.replace(self, entries=(Entry(new),))
        *older, current = self.entries
        if current.state == new:
            return self
        moved = {model: set(labels) for model, labels in self.moved.items()}
        for move in _moves(current.state or {}, new):
            moved.setdefault(move.model, set()).add(move.label)
        kept = [e for e in older if e.replaced is None or e.replaced > now - _KEPT_SECONDS]
        return dataclasses.replace(
            self,
            entries=(*kept, Entry(current.state, now), Entry(new)),
            moved={model: frozenset(labels) for model, labels in moved.items()},
        )

    def of_file(self, present: State, written: float) -> "History":
        """The history for the file that is there, which somebody else may have written.

        Args:
            present: what the file says.
            written: when it was written.
        """
        if self.entries and self.entries[-1].state == present:
            return self
        # What servers could read before this history begins is not known.
        before = self if self.entries else History((Entry(None),))
        return before.followed_by(present, written)

    def leaving(self, model: str, version: int | None) -> "History":
        """The history with what a rollback of a model left; None when there is nothing to undo."""
        left = {name: number for name, number in self.left.items() if name != model}
        if version is not None:
            left[model] = version
        return dataclasses.replace(self, left=left)

    def _never_loaded(self, entry: Entry, new: State) -> Iterator[Move]:
        """The moves to versions that a server with `entry` does not load."""
        if entry.state is None:
            yield from _moves(self.entries[-1].state or {}, new)
            return
        for move in _moves(entry.state, new):
            if move.version not in entry.state[move.model].versions:
                yield move


def state_of(config: ModelServerConfig) -> State:
    """What a server has that took a config."""
    return {
        model.name: ModelState(frozenset(versions_of(model)), labels_of(model))
        for model in config.model_config_list.config
    }


def _moves(old: State, new: State) -> Iterator[Move]:
    """The labels that a server with `old` has on another version than `new` names.

    A label that it does not have may name any version, loaded or not.
    """
    for name, model in new.items():
        before = old[name].labels if name in old else {}
        for label, version in model.labels.items():
            if before.get(label, version) != version:
                yield Move(name, label, version)


def history_path(models_config: pathlib.Path) -> pathlib.Path:
    """Where the history of a models.config is: beside it, under a hidden name."""
    return models_config.with_name(f".{models_config.name}.history.json")


def read_history(models_config: pathlib.Path, config: ModelServerConfig, now: float) -> History:
    """The history of a models.config, with the file that is there as its last entry.

    A history that is not there or cannot be read is taken for one that is not known.

    Args:
        models_config: path of the file.
        config: what it says.
        now: the time, in seconds since 1970.
    """
    try:
        written = models_config.stat().st_mtime
    except FileNotFoundError:
        return History()
    try:
        known = _parsed(json.loads(history_path(models_config).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = History()
    return known.of_file(state_of(config), min(written, now))


def write_history(models_config: pathlib.Path, history: History) -> None:
    """Writes the history of a models.config. It has to be there before the file itself is.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "entries": [
            {
                "replaced": entry.replaced,
                "models": None
                if entry.state is None
                else {
                    name: {"versions": sorted(model.versions), "labels": dict(model.labels)}
                    for name, model in entry.state.items()
                },
            }
            for entry in history.entries
        ],
        "left": dict(history.left),
        "moved": {model: sorted(labels) for model, labels in history.moved.items()},
    }
    write_atomically(history_path(models_config), json.dumps(content, indent=1) + "\n")


def _parsed(content: Any) -> History:
    if content["format"] != _FORMAT:
        raise ValueError("another format")
    entries = tuple(
        Entry(
            None
            if entry["models"] is None
            else {
                name: ModelState(frozenset(model["versions"]), model["labels"])
                for name, model in entry["models"].items()
            },
            None if entry["replaced"] is None else float(entry["replaced"]),
        )
        for entry in content["entries"]
    )
    moved = {model: frozenset(labels) for model, labels in content["moved"].items()}
    return History(entries, content["left"], moved)
