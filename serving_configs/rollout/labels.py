"""The changes of a config by promote, rollback and label.

Each takes the model's latest published version, which servers load beside the labelled ones.
"""

import copy
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
    """Makes a version the stable one, and labels the version that was stable `previous`.

    `canary` moves along, unless it names a later version.

    Raises:
        ConfigError: the config has no such model.
    """
    labels = labels_of(find_model(config, model))
    before = labels.get(STABLE, version)
    if before != version:
        labels[PREVIOUS] = before
    labels[STABLE] = version
    labels[CANARY] = max(version, labels.get(CANARY, version))
    return _replace_labels(config, model, labels, [latest])


def rollback(
    config: ModelServerConfig,
    model: str,
    version: int | None,
    latest: int,
    *,
    left: int | None = None,
    moved: Iterable[str] = (),
) -> ModelServerConfig:
    """Makes the previous version, or `version`, the stable one again.

    A server may have refused the change that is undone here, because a version does not load. It
    accepts this config: labels move only to the version that becomes stable again. So `canary` and
    every other label that ever moved go along, and `previous` is removed. The version that was
    stable stays loaded, and a second rollback returns to it.

    Args:
        config: the config.
        model: the model's name.
        version: the version to return to; None for `previous`, or else for `left`.
        latest: the model's latest published version.
        left: the version that was stable before the model's last rollback.
        moved: the labels that have named more than one version.

    Raises:
        ConfigError: the config has no such model, or there is no version to return to.
    """
    labels = labels_of(find_model(config, model))
    target = labels.get(PREVIOUS, left) if version is None else version
    if target is None:
        stable, canary = labels.get(STABLE), labels.get(CANARY)
        remedy = "name the version to return to with --version"
        if stable is not None and canary is not None and canary != stable:
            remedy += f", or take {CANARY} back with: label --label {CANARY} --version {stable}"
        raise ConfigError(f"{model} has no label {PREVIOUS}, which promote sets; {remedy}")
    before = labels.get(STABLE, target)
    labels.pop(PREVIOUS, None)
    for label in {*labels} & {CANARY, *moved} | {STABLE}:
        labels[label] = target
    return _replace_labels(config, model, labels, [latest, before])


def move_label(
    config: ModelServerConfig, model: str, label: str, version: int, latest: int
) -> ModelServerConfig:
    """Moves a label, which may be new, to a version.

    Raises:
        ConfigError: the config has no such model, or the label is empty.
    """
    if not label:
        raise ConfigError("an empty label; expected a name such as canary")
    labels = labels_of(find_model(config, model))
    labels[label] = version
    return _replace_labels(config, model, labels, [latest])


def _replace_labels(
    config: ModelServerConfig, model: str, labels: dict[str, int], loaded: Iterable[int]
) -> ModelServerConfig:
    """A copy of a config with a model's labels, which loads their versions and `loaded`."""
    updated = copy.deepcopy(config)
    entry = find_model(updated, model)
    set_labels(entry, labels)
    # Clients that name no label get the latest.
    set_versions(entry, [*loaded, *labels.values()])
    return updated
