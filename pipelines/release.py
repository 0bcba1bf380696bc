"""Putting a version in place."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from serving_configs import MANIFEST, base_path, next_version

from .records import StagedModel


@dataclasses.dataclass(frozen=True)
class Release:
    """A version that is in place.

    Attributes:
        version: its number.
        path: its directory.
    """

    version: int
    path: str


def release(staged: StagedModel, publish_to: str, run: str, manifest: dict[str, Any]) -> Release:
    """Moves a staged model to the next free version of its base path, by one rename.

    A runner may do a step again that was already done: the version that this run put in place is
    then found by the run's name in its manifest.

    Args:
        staged: a model on the same file system.
        publish_to: root of the published tree.
        run: name of the run.
        manifest: what is known of the model; the version and the run are added.

    Raises:
        OSError: the tree can't be written.
    """
    base = base_path(publish_to, staged.model)
    base.mkdir(parents=True, exist_ok=True)
    done = _released_by(base, run)
    if done is not None:
        return done
    source = pathlib.Path(staged.path)
    while True:
        version = next_version(entry.name for entry in base.iterdir())
        target = base / str(version)
        content = {"model": staged.model, "version": version, "run": run, **manifest}
        path = source / MANIFEST
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _sync_tree(source)
        try:
            source.rename(target)
        except OSError:
            if target.exists() and source.exists():
                continue  # Another run took the number in between.
            raise
        _sync(base)
        return Release(version, str(target))


def _released_by(base: pathlib.Path, run: str) -> Release | None:
    for entry in base.iterdir():
        manifest = entry / MANIFEST
        if not entry.name.isdecimal() or not manifest.is_file():
            continue
        if json.loads(manifest.read_text(encoding="utf-8")).get("run") == run:
            return Release(int(entry.name), str(entry))
    return None


def _sync_tree(root: pathlib.Path) -> None:
    for directory, _, files in os.walk(root):
        for name in files:
            _sync(pathlib.Path(directory) / name)
        _sync(pathlib.Path(directory))


def _sync(path: pathlib.Path) -> None:
    """Waits until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
