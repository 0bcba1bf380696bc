"""A model of the rule by which TF Serving takes a config, with a clock of its own.

As `ServerCore::ReloadConfig` and `UpdateModelVersionLabelMap` of tensorflow/serving: a label that
the server has may not move to a version that is not AVAILABLE, or the whole config is refused; a
label that it does not have may name anything
(`--allow_version_labels_for_unavailable_models`); the first config is taken as it is. The server
looks at the file no more while it waits for the models that are new in it.
"""

import dataclasses
import math
from collections.abc import Mapping

from serving_configs.rollout.history import State

POLL = 30.0
LOAD = 600.0


@dataclasses.dataclass
class PollingServer:
    """A server that looks at one file again and again.

    Attributes:
        poll: seconds between its looks.
        load: seconds of a load.
        broken: (model, version) that it can't load.
        state: what it has taken; None before its start.
        loads: (model, version) -> when its load ends.
        look: when it looks at the file next.
    """

    poll: float = POLL
    load: float = 1.0
    broken: set[tuple[str, int]] = dataclasses.field(default_factory=set)
    state: State | None = None
    loads: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)
    look: float = 0.0

    def copy(self) -> "PollingServer":
        return dataclasses.replace(self, broken=set(self.broken), loads=dict(self.loads))

    def start(self, file: State, now: float) -> None:
        """Starts or restarts: the file is taken as it is."""
        self.state, self.loads = None, {}
        self.take(file, now)

    def available(self, model: str, version: int, now: float) -> bool:
        return self.loads.get((model, version), math.inf) <= now

    def refuses(self, file: State, now: float) -> set[tuple[str, str, int]]:
        """The moves for whose sake the server refuses a file."""
        if self.state is None:
            return set()
        return {
            (name, label, version)
            for name, model in file.items()
            if name in self.state
            for label, version in model.labels.items()
            if self.state[name].labels.get(label, version) != version
            and not self.available(name, version, now)
        }

    def take(self, file: State, now: float) -> None:
        """Takes a file, or refuses it whole."""
        self.look = now + self.poll
        if self.refuses(file, now):
            return
        new = file.keys() - (self.state or {}).keys()
        self.state = file
        wanted = {(name, version) for name, model in file.items() for version in model.versions}
        self.loads = {key: end for key, end in self.loads.items() if key in wanted}
        for key in sorted(wanted - self.loads.keys()):
            self.loads[key] = math.inf if key in self.broken else now + self.load
        # It waits for one version of each model that is new.
        self.look = max([self.look, *(self._first(model, now) + self.poll for model in new)])

    def run(self, file: State, now: float, until: float) -> None:
        """Looks at a file, which stays as it is, until a time."""
        while self.look <= until:
            self.take(file, max(self.look, now))

    def labels_that_fail(self, now: float) -> Mapping[tuple[str, str], int]:
        """(model, label) -> version, of the labels whose calls fail now."""
        return {
            (name, label): version
            for name, model in (self.state or {}).items()
            for label, version in model.labels.items()
            if not self.available(name, version, now)
        }

    def _first(self, model: str, now: float) -> float:
        ends = [end for (name, _), end in self.loads.items() if name == model and end < math.inf]
        return min(ends, default=now)
