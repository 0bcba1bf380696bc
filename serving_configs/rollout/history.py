"""The contents of models.config that polling servers can have, and moves that they would refuse.

A polling server reads the file as it is at that moment. It may have missed earlier contents, and it
may be behind: it has not polled yet, it does not poll while it starts or loads a new model, or it
refuses the file until a version has loaded. So its config is one of the contents of the last
minutes. They are kept beside models.config, with the time when each was replaced. A change is safe
when no server refuses it for ever, whichever of those contents it has.
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
# No polling server has an older content, whatever the flags of a command say.
_KEPT_SECONDS = 7 * 86400.0


@dataclasses.dataclass(frozen=True)
class Polling:
    """How fast servers follow the file.

    Attributes:
        seconds: the longest time between two polls; 0 when no server polls.
        load_seconds: the longest time of a server's start or of a load.
    """

    seconds: float
    load_seconds: float

    @property
    def lag(self) -> float:
        """Seconds after which no server has a replaced content any longer."""
        # Two polls: one may have been in progress, and a machine may be busy.
        return 2 * self.seconds + self.load_seconds if self.seconds else 0.0


@dataclasses.dataclass(frozen=True)
class ModelState:
    """A model in a config: the versions to load, and label -> version."""

    versions: frozenset[int]
    labels: Mapping[str, int]


State = Mapping[str, ModelState]
"""The models of a config: name -> versions and labels."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A label that moves from another version to this one."""

    model: str
    label: str
    version: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A content of the file.

    Attributes:
        state: its models; None when they are not known.
        replaced: when it was replaced, in seconds since 1970; None for the current content.
    """

    state: State | None
    replaced: float | None = None


@dataclasses.dataclass(frozen=True)
class History:
    """The contents of the file so far.

    Attributes:
        entries: the contents, the oldest first, the current one last; empty before the first.
        left: model -> the version that was stable before its last rollback; another rollback
            returns to it, unless a label has moved since.
        moved: model -> labels that have named more than one version.
    """

    entries: tuple[Entry, ...] = ()
    left: Mapping[str, int] = dataclasses.field(default_factory=dict)
    moved: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    def unsafe_moves(self, new: State, now: float, polling: Polling) -> dict[Move, float]:
        """The moves because of which a server could refuse a config for ever.

        Args:
            new: the config.
            now: the time, in seconds since 1970.
            polling: how fast servers follow the file.

        Returns:
            Move -> seconds until no server can refuse it; infinite where the current content does
            not name the version for servers to load.
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
        """The history after the current content is replaced.

        If the content is the same, as after a command that changes nothing, so is the history.
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
        """The history with the content of the file, which may have been edited by hand.

        Args:
            present: the content.
            written: when it was written, in seconds since 1970.
        """
        if self.entries and self.entries[-1].state == present:
            return self
        # The contents before the history begins are not known.
        before = self if self.entries else History((Entry(None),))
        return before.followed_by(present, written)

    def leaving(self, model: str, version: int | None) -> "History":
        """The history with the version that a rollback of a model left; None removes it."""
        left = {name: number for name, number in self.left.items() if name != model}
        if version is not None:
            left[model] = version
        return dataclasses.replace(self, left=left)

    def _never_loaded(self, entry: Entry, new: State) -> Iterator[Move]:
        """The moves to versions that a server with the content `entry` does not load."""
        if entry.state is None:
            yield from _moves(self.entries[-1].state or {}, new)
            return
        for move in _moves(entry.state, new):
            if move.version not in entry.state[move.model].versions:
                yield move


def state_of(config: ModelServerConfig) -> State:
    """The models of a config."""
    return {
        model.name: ModelState(frozenset(versions_of(model)), labels_of(model))
        for model in config.model_config_list.config
    }


def _moves(old: State, new: State) -> Iterator[Move]:
    """The labels that have different versions in both configs.

    A label that only `new` has does not count: a server accepts it for any version.
    """
    for name, model in new.items():
        before = old[name].labels if name in old else {}
        for label, version in model.labels.items():
            if before.get(label, version) != version:
                yield Move(name, label, version)


def history_path(models_config: pathlib.Path) -> pathlib.Path:
    """The path of a models.config's history: beside it, hidden."""
    return models_config.with_name(f".{models_config.name}.history.json")


def read_history(models_config: pathlib.Path, config: ModelServerConfig, now: float) -> History:
    """The history of a models.config, with its current content as the last entry.

    Where the history is missing or cannot be read, the earlier contents are not known.

    Args:
        models_config: path of the file.
        config: its current content.
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
    """Writes the history of a models.config. Call this before writing the file itself.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "entries": [
            {"replaced": entry.replaced, "models": _to_json(entry.state)}
            for entry in history.entries
        ],
        "left": dict(history.left),
        "moved": {model: sorted(labels) for model, labels in history.moved.items()},
    }
    write_atomically(history_path(models_config), json.dumps(content, indent=1) + "\n")


def _to_json(state: State | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        name: {"versions": sorted(model.versions), "labels": dict(model.labels)}
        for name, model in state.items()
    }


def _from_json(content: Any) -> State | None:
    if content is None:
        return None
    return {
        name: ModelState(frozenset(model["versions"]), model["labels"])
        for name, model in content.items()
    }


def _parsed(content: Any) -> History:
    if content["format"] != _FORMAT:
        raise ValueError("another format")
    entries = tuple(
        Entry(_from_json(e["models"]), None if e["replaced"] is None else float(e["replaced"]))
        for e in content["entries"]
    )
    moved = {model: frozenset(labels) for model, labels in content["moved"].items()}
    return History(entries, content["left"], moved)
