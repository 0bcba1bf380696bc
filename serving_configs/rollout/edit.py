"""The commands promote, rollback and label: they edit models.config under a lock."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from signatures.quiet import load_tensorflow

from ..errors import ConfigError
from ..server.deployment import write_deployment
from ..server.models_config import (
    PREVIOUS,
    STABLE,
    add_versions,
    as_text,
    find_model,
    labels_of,
    models_config_path,
    read_models_config,
    remove_versions,
    versions_of,
)
from ..tree.atomic import locked, write_atomically
from ..tree.manifest import published_versions
from ..tree.paths import base_path, version_directory
from ..tree.published import read_published
from ..tree.settings import KeptSettings, read_settings
from ..trust.check import require_signature, require_sound
from .history import History, Move, Polling, read_history, state_of, write_history
from .labels import move_label, promote, rollback

# Seconds beyond the lag of servers, so that the next attempt is not a moment too early.
_MARGIN = 0.1
# Seconds after which a command that waits says so again.
_REPORT_EVERY = 60.0


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of a model's labels.

    Attributes:
        command: `promote`, `rollback` or `label`.
        model: the model's name.
        version: the version that gets the label; None for the one that `rollback` finds.
        label: for the command `label`.
    """

    command: str
    model: str
    version: int | None = None
    label: str = ""

    def of(
        self, config: ModelServerConfig, latest: int, history: History
    ) -> tuple[ModelServerConfig, History]:
        """The changed config, and the history with the version that a rollback leaves.

        Raises:
            ConfigError: the change is impossible in this config.
        """
        before, left = labels_of(find_model(config, self.model)), history.left.get(self.model)
        if self.command == "rollback":
            moved = history.moved.get(self.model, ())
            new = rollback(config, self.model, self.version, latest, left=left, moved=moved)
            stable = labels_of(find_model(new, self.model))[STABLE]
            if before.get(STABLE, stable) == stable:
                return new, history.leaving(self.model, before.get(PREVIOUS, left))
            return new, history.leaving(self.model, before[STABLE])
        assert self.version is not None
        if self.command == "promote":
            new = promote(config, self.model, self.version, latest)
        else:
            new = move_label(config, self.model, self.label, self.version, latest)
            if left and labels_of(find_model(new, self.model)) == before:
                return add_versions(new, {self.model: [left]}), history
        # A rollback can be undone only as long as nothing else was done: later, `rollback` would
        # bring back a version that somebody has gone away from long ago.
        return new, history.leaving(self.model, None)


def edit(
    publish_to: str,
    change: Change,
    polling: Polling,
    *,
    servers: Sequence[str] = (),
    wait: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Changes a model's labels in models.config and the deployment files.

    No polling server refuses the file for ever: a label moves once every such server has had the
    time to load the version. Before that, the change is refused or waits. A rollback to the
    previous version is always safe, and is done at once.

    With `servers`, each loads the new versions; then the labels move; then the file is written;
    then the servers unload the versions that are no longer named. If a server fails before the file
    is written, nothing changes.

    Args:
        publish_to: root of the published tree.
        change: the change.
        polling: how fast polling servers follow the file.
        servers: HOST:PORT of running servers to reload.
        wait: whether to wait until the change is safe; with servers, it always waits.
        report: called with a line that says what the change waits for, and every minute of the
            wait with the seconds that are left.

    Returns:
        The model's labels.

    Raises:
        ConfigError: the change is impossible or not safe yet, or a server fails.
        OSError: a file cannot be written.
    """
    path = models_config_path(publish_to)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; write it with: python -m serving_configs write")
    named: set[int] = set()
    while True:
        with locked(path):
            tree = _Tree.read(publish_to, change)
            unsafe = tree.unsafe_moves(polling)
            if not unsafe:
                return tree.apply(servers, polling, named)
            move, seconds = max(unsafe.items(), key=lambda of: (of[1], of[0].label == STABLE))
            if not (wait or servers):
                raise ConfigError(_refusal(move, seconds, polling))
            if seconds == math.inf:
                named |= tree.name_versions()
                seconds = polling.lag
        report(
            f"waiting {math.ceil(seconds)} s: servers that read {path.name} every "
            f"{polling.seconds:g} s have to know version {move.version} of {move.model} before "
            f"{move.label} names it (--poll_seconds 0: no server polls it)"
        )
        _sleep(seconds + _MARGIN, report)


@dataclasses.dataclass(frozen=True)
class _Tree:
    """A published tree, read under its lock, and a change of it."""

    publish_to: str
    model: str
    published: Mapping[str, Sequence[int]]
    old: ModelServerConfig
    new: ModelServerConfig
    history: History
    after: History
    always_safe: bool
    settings: KeptSettings

    @classmethod
    def read(cls, publish_to: str, change: Change) -> "_Tree":
        """Reads the tree and checks every version to which a label moves.

        Raises:
            ConfigError: the change is impossible.
        """
        path = models_config_path(publish_to)
        old, model = read_models_config(path), change.model
        published = published_versions(publish_to)
        find_model(old, model)
        if not published.get(model):
            raise ConfigError(f"{base_path(publish_to, model)}: no published version")
        history = read_history(path, old, time.time())
        new, after = change.of(old, published[model][-1], history)
        before = labels_of(find_model(old, model))
        for label, version in labels_of(find_model(new, model)).items():
            if before.get(label) != version:
                _check_version(publish_to, model, version, published[model])
                # Back to what was served before is always possible.
                if change.command != "rollback":
                    require_signature(publish_to, model, version)
        # Every polling server has loaded this version: it was stable before a safe promotion.
        safe = change.command == "rollback" and change.version is None and PREVIOUS in before
        return cls(
            publish_to=publish_to,
            model=model,
            published=published,
            old=old,
            new=new,
            history=history,
            after=after,
            always_safe=safe,
            settings=read_settings(publish_to),
        )

    def unsafe_moves(self, polling: Polling) -> dict[Move, float]:
        """See `History.unsafe_moves`."""
        if self.always_safe:
            return {}
        return self.history.unsafe_moves(state_of(self.new), time.time(), polling)

    def name_versions(self) -> set[int]:
        """Writes the file with the old labels and the versions of the new labels.

        Returns:
            The versions that the file did not name before.
        """
        needed = set(labels_of(find_model(self.new, self.model)).values())
        new = needed - set(versions_of(find_model(self.old, self.model)))
        self._write(add_versions(self.old, {self.model: new}), self.history)
        return new

    def apply(
        self, servers: Sequence[str], polling: Polling, named: Collection[int]
    ) -> dict[str, int]:
        """Makes the change, in the file and on servers.

        Args:
            servers: HOST:PORT of running servers.
            polling: has the seconds that their loads may take.
            named: the versions that `name_versions` added to the file for this change; removed
                again when a server fails.

        Returns:
            The model's labels.
        """
        with contextlib.ExitStack() as stack:
            updates = []
            if servers:
                # The messages need TensorFlow, which takes seconds to load.
                load_tensorflow(set_up_devices=False)
                from .servers import Server, update_servers

                connected = [Server(address, polling.load_seconds) for address in servers]
                for server in connected:
                    stack.callback(server.close)
                try:
                    updates = update_servers(connected, self.old, self.new, self.model)
                except ConfigError:
                    if named:
                        self._write(remove_versions(self.old, self.model, named), self.history)
                    raise
            self._write(self.new, self.after)
            for update in updates:
                update.drop()
        return labels_of(find_model(self.new, self.model))

    def _write(self, config: ModelServerConfig, history: History) -> None:
        path = models_config_path(self.publish_to)
        write_history(path, history.followed_by(state_of(config), time.time()))
        write_atomically(path, as_text(config))
        latest = [
            read_published(version_directory(self.publish_to, name, versions[-1]))
            for name, versions in self.published.items()
            if any(entry.name == name for entry in config.model_config_list.config)
        ]
        write_deployment(self.publish_to, config, latest, self.settings)


def _sleep(seconds: float, report: Callable[[str], None]) -> None:
    while seconds > _REPORT_EVERY:
        time.sleep(_REPORT_EVERY)
        seconds -= _REPORT_EVERY
        report(f"waiting {math.ceil(seconds)} s more")
    time.sleep(seconds)


def _refusal(move: Move, seconds: float, polling: Polling) -> str:
    label, version = move.label, move.version
    if seconds == math.inf:
        cause = f"models.config does not name version {version} for servers to load"
        remedy = f"--wait names it, and moves the label {polling.lag:.0f} s later"
    else:
        cause = (
            f"a server that reads models.config every {polling.seconds:g} s and loads for up to "
            f"{polling.load_seconds:g} s may not know version {version} yet"
        )
        remedy = f"run this again in {math.ceil(seconds)} s, or with --wait"
    return (
        f"label {label} of {move.model} can't move to version {version} yet: {cause}, and would "
        f"refuse the file for ever; {remedy}, or hand it to all such servers with --server "
        "HOST:PORT --poll_seconds 0"
    )


def _check_version(publish_to: str, model: str, version: int, published: Sequence[int]) -> None:
    if version not in published:
        raise ConfigError(
            f"{base_path(publish_to, model)}: no version {version}; it has "
            f"{', '.join(map(str, published))}"
        )
    require_sound(publish_to, model, version)
