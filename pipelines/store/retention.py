"""Removing older versions of what was published."""

import pathlib

from export.errors import UserError
from serving_configs.errors import ConfigError
from serving_configs.server.models_config import named_versions, parse_models_config
from serving_configs.tree.paths import MODELS_CONFIG, SERVING, version_path

from .base import Store, read
from .release import read_manifests


def remove_versions(store: Store, model: str, keep: int, aside: str) -> list[int]:
    """Removes a model's versions but the latest ones and those that models.config names.

    Args:
        store: of the tree.
        model: name of the model.
        keep: how many to keep, at least 1.
        aside: path of the run's staging directory.

    Returns:
        The versions that were removed.

    Raises:
        UserError: `serving/models.config` cannot be read; nothing was removed.
        OSError: a version cannot be removed.
    """
    named = _named(store, model)
    # Only versions of this pipeline: what another program put there is not removed.
    versions = sorted(read_manifests(store, model))
    removed = [version for version in versions[:-keep] if version not in named]
    for version in removed:
        store.remove_version(version_path(model, version), aside)
    return removed


def _named(store: Store, model: str) -> set[int]:
    """Versions that the models config loads or labels."""
    if pathlib.PurePath(MODELS_CONFIG).name not in store.children(SERVING):
        return set()
    try:
        config = parse_models_config(read(store, MODELS_CONFIG), store.address(MODELS_CONFIG))
    except ConfigError as error:
        raise UserError(str(error)) from None
    return named_versions(config).get(model, set())
