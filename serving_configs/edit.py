"""Editing models.config: under a lock, of checked versions, on running servers too."""

import contextlib
from collections.abc import Callable, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .atomic import locked, write_atomically
from .errors import ConfigError
from .labels import moved_to_unloaded
from .manifest import published_versions, version_problems
from .models_config import as_text, find_model, labels_of, models_config_path, read_models_config
from .published import read_published
from .tree import base_path
from .write import write_deployment

Change = Callable[[ModelServerConfig, int], ModelServerConfig]
"""(config, the model's latest published version) -> the config that is wanted."""


def edit(
    publish_to: str,
    model: str,
    change: Change,
    servers: Sequence[str] = (),
    seconds: float = 600.0,
) -> dict[str, int]:
    """Changes a model's labels in models.config and the deployment files.

    With servers, each first loads what is new; then the labels move; then the file is written; then
    what no label names any longer is dropped. A server that fails before the file is written leaves
    everything as it was.

    Args:
        publish_to: root of the published tree.
        model: the model's name.
        change: makes the new config.
        servers: HOST:PORT of running servers to hand it to.
        seconds: how long their loads may take.

    Returns:
        The model's labels.

    Raises:
        ConfigError: why not; a line.
        OSError: a file cannot be written.
    """
    path = models_config_path(publish_to)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; write it with: python -m serving_configs write")
    with locked(path):
        old = read_models_config(path)
        published = published_versions(publish_to)
        find_model(old, model)
        if not published.get(model):
            raise ConfigError(f"{base_path(publish_to, model)}: no published version")
        new = change(old, published[model][-1])
        labels = labels_of(find_model(new, model))
        for label, version in labels.items():
            if labels_of(find_model(old, model)).get(label) != version:
                _check_version(publish_to, model, version, published[model])
        moved = moved_to_unloaded(old, new, model)
        if moved and not servers:
            label, version = moved
            raise ConfigError(
                f"label {label} can't move to version {version} of {model}, which servers do not "
                "load yet, in one step: name them with --server, or give that version a label "
                f"that is not in use (label --label next --version {version}), and move {label} "
                "when they have loaded it"
            )
        with contextlib.ExitStack() as stack:
            connected = []
            if servers:
                # TensorFlow, which the messages need, takes seconds to load.
                from .reload import Server, load_and_label

                connected = [Server(address, seconds) for address in servers]
                for server in connected:
                    stack.callback(server.close)
                load_and_label(connected, old, new)
            write_atomically(path, as_text(new))
            for server in connected:
                server.reload(new)
        latest = [
            read_published(base_path(publish_to, name) / str(versions[-1]))
            for name, versions in published.items()
            if any(entry.name == name for entry in new.model_config_list.config)
        ]
        write_deployment(publish_to, new, latest)
    return labels


def _check_version(publish_to: str, model: str, version: int, published: Sequence[int]) -> None:
    if version not in published:
        raise ConfigError(
            f"{base_path(publish_to, model)}: no version {version}; it has "
            f"{', '.join(map(str, published))}"
        )
    problems = version_problems(base_path(publish_to, model) / str(version))
    if problems:
        raise ConfigError(f"version {version} of {model} does not verify: {problems[0]}")
