"""Removing older versions of what was published."""

import pathlib

from export.errors import UserError
from serving_configs.errors import ConfigError
from serving_configs.server.models_config import MODELS_CONFIG, named_versions, parse_models_config

from .release import read_manifests
from .storage import Storage, read


def remove_versions(storage: Storage, model: str, keep: int, aside: pathlib.Path) -> list[int]:
    """Removes a model's versions but the latest ones and those that models.config names.

    Args:
        storage: of the tree.
        model: name of the model.
        keep: how many to keep, at least 1.
        aside: a directory of the staging area, on the tree's filesystem if that is a disk.

    Returns:
        The versions that were removed.

    Raises:
        UserError: `serving/models.config` cannot be read; nothing was removed.
        OSError: a version cannot be removed.
    """
    named = _named(storage, model)
    # Only what is a version of ours: what else somebody put there is not ours to remove.
    versions = sorted(read_manifests(storage, model))
    removed = [version for version in versions[:-keep] if version not in named]
    for version in removed:
        storage.remove_version(f"serving/{model}/{version}", aside)
    return removed


def _named(storage: Storage, model: str) -> set[int]:
    """Versions that the models config loads or labels."""
    if pathlib.PurePath(MODELS_CONFIG).name not in storage.children("serving"):
        return set()
    try:
        config = parse_models_config(read(storage, MODELS_CONFIG), storage.address(MODELS_CONFIG))
    except ConfigError as error:
        raise UserError(str(error)) from None
    return named_versions(config).get(model, set())
