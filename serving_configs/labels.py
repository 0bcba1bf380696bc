"""Moving labels: what promote, rollback and label make of a config.

Each takes the model's latest published version too, which servers load beside the labelled ones.
"""

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .errors import ConfigError
from .models_config import (
    CANARY,
    PREVIOUS,
    STABLE,
    find_model,
    labels_of,
    set_labels,
    set_versions,
    versions_of,
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
    return _with_labels(config, model, labels, latest)


def rollback(
    config: ModelServerConfig, model: str, version: int | None, latest: int
) -> ModelServerConfig:
    """Makes the previous version, or the one given, the stable one again.

    What was stable becomes `previous`, so that a second rollback undoes the first. `canary` goes
    back too when it named what was stable.

    Raises:
        ConfigError: the config has no such model, or no version was given and none is remembered.
    """
    labels = labels_of(find_model(config, model))
    target = labels.get(PREVIOUS) if version is None else version
    if target is None:
        raise ConfigError(
            f"{model} has no label {PREVIOUS}, which promote sets; say with --version what to go "
            "back to"
        )
    before = labels.get(STABLE, target)
    if before != target:
        labels[PREVIOUS] = before
    if labels.get(CANARY) == before:
        labels[CANARY] = target
    labels[STABLE] = target
    return _with_labels(config, model, labels, latest)


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
    return _with_labels(config, model, labels, latest)


def moved_to_unloaded(
    old: ModelServerConfig, new: ModelServerConfig, model: str
) -> tuple[str, int] | None:
    """A label in use that would move to a version that servers do not load yet, if there is one.

    A server that reads the new config in one step refuses it, and would at every further look.
    """
    before = find_model(old, model)
    loaded, in_use = versions_of(before), labels_of(before)
    for label, version in labels_of(find_model(new, model)).items():
        if in_use.get(label, version) != version and version not in loaded:
            return label, version
    return None


def _with_labels(
    config: ModelServerConfig, model: str, labels: dict[str, int], latest: int
) -> ModelServerConfig:
    updated = ModelServerConfig()
    updated.CopyFrom(config)
    entry = find_model(updated, model)
    set_labels(entry, labels)
    # The latest is what those get who ask for no label.
    set_versions(entry, [latest, *labels.values()])
    return updated
