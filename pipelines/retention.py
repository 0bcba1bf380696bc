"""Removing older versions of what was published."""

import pathlib

from export.errors import UserError
from serving_configs.errors import ConfigError
from serving_configs.models_config import labelled_versions

from .release import read_manifests
from .storage import Storage, is_remote


def remove_versions(
    storage: Storage, publish_to: str, model: str, keep: int, aside: pathlib.Path
) -> list[int]:
    """Removes a model's versions but the latest ones and those that a server is told of.

    Args:
        storage: of the tree.
        publish_to: the tree.
        model: name of the model.
        keep: how many to keep, at least 1.
        aside: a directory of the staging area, on the tree's filesystem if that is a disk.

    Returns:
        The versions that were removed.

    Raises:
        UserError: `serving/models.config` cannot be read; nothing was removed.
        OSError: a version cannot be removed.
    """
    named = _named(publish_to, model)
    # Only what is a version of ours: what else somebody put there is not ours to remove.
    versions = sorted(read_manifests(storage, model))
    removed = [version for version in versions[:-keep] if version not in named]
    for version in removed:
        storage.remove_version(f"serving/{model}/{version}", aside)
    return removed


def _named(publish_to: str, model: str) -> set[int]:
    """Versions that the models config loads or labels."""
    if is_remote(publish_to):
        # The configs are written to local trees only.
        return set()
    try:
        return labelled_versions(publish_to).get(model, set())
    except ConfigError as error:
        raise UserError(str(error)) from None
