"""Moving labels: what promote, rollback and label make of a config.

Each takes the model's latest published version too, which servers load beside the labelled ones.
"""

from collections.abc import Iterable

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..errors import ConfigError
from ..server.models_config import (
    CANARY,
    PREVIOUS,
    STABLE,
    find_model,
    labels_of,
    set_labels,
    set_versions,
)


def promote(config: ModelServerConfig, model: str, version: int, latest: int) -> ModelServerConfig:
    """Makes a version the stable one; the one before is remembered as `previous`.

    `canary` comes along, unless it names a later version.

    Raises:
        ConfigError: the config has no such model.
    """
    labels = labels_of(find_model(config, model))
    before = labels.get(STABLE, version)
    if before != version:
        labels[PREVIOUS] = before
    labels[STABLE] = version
    labels[CANARY] = max(version, labels.get(CANARY, version))
    return _with_labels(config, model, labels, [latest])


def rollback(
    config: ModelServerConfig,
    model: str,
    version: int | None,
    latest: int,
    *,
    left: int | None = None,
    moved: Iterable[str] = (),
) -> ModelServerConfig:
    """Makes the previous version, or the one given, the stable one again.

    A server may have refused what is undone here, because a version does not load. It takes this
    config all the same: no label in it moves to any version but the one that is stable again. So
    `previous` is dropped; the version that was stable stays loaded, and a second rollback returns
    to it. `canary` and every other label that was moved before go along.

    Args:
        config: the config so far.
        model: the model's name.
        version: what to go back to; None for `previous`, or for what the last rollback left.
        latest: the model's latest published version.
        left: what the last rollback of the model left.
        moved: the labels that have named more than one version.

    Raises:
        ConfigError: the config has no such model, or no version was given and none is remembered.
    """
    labels = labels_of(find_model(config, model))
    target = labels.get(PREVIOUS, left) if version is None else version
    if target is None:
        raise ConfigError(
            f"{model} has no label {PREVIOUS}, which promote sets; say with --version what to go "
            "back to"
        )
    before = labels.get(STABLE, target)
    labels.pop(PREVIOUS, None)
    for label in {*labels} & {CANARY, *moved} | {STABLE}:
        labels[label] = target
    return _with_labels(config, model, labels, [latest, before])


def move_label(
    config: ModelServerConfig, model: str, label: str, version: int, latest: int
) -> ModelServerConfig:
    """Lets a label, new or not, name a version.

    Raises:
        ConfigError: the config has no such model, or the label is empty.
    """
    if not label:
        raise ConfigError("an empty label; expected a name such as canary")
    labels = labels_of(find_model(config, model))
    labels[label] = version
    return _with_labels(config, model, labels, [latest])


def _with_labels(
    config: ModelServerConfig, model: str, labels: dict[str, int], loaded: Iterable[int]
) -> ModelServerConfig:
    """A config with a model's labels, and the versions that they name beside `loaded`."""
    updated = ModelServerConfig()
    updated.CopyFrom(config)
    entry = find_model(updated, model)
    set_labels(entry, labels)
    # The latest is what those get who ask for no label.
    set_versions(entry, [*loaded, *labels.values()])
    return updated
