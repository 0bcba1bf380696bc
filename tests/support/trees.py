"""Published trees: of a tiny variant, and what tests change in them."""

import dataclasses
import pathlib
import shutil
import time

from export.variants import CaiTConfig, Variant
from serving_configs import MANIFEST, base_path
from serving_configs.rollout.history import read_history, write_history
from serving_configs.server.models_config import models_config_path, read_models_config
from serving_configs.tree.manifest import load_manifest, render_manifest

TINY = "cait_tiny_32"
MODELS = (TINY, f"{TINY}_fe")
TINY_VARIANT = Variant(
    TINY, CaiTConfig(32, 16, 32, 2, 2, num_classes=1000), 0, 0.0, 70.0, 90.0, "TINY_32.pth"
)


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended, and the tree that it published to."""

    status: int
    stdout: str
    stderr: str
    tree: pathlib.Path


def add_version(tree: pathlib.Path, model: str, version: int) -> pathlib.Path:
    """Publishes version 1 again under another number."""
    source = base_path(str(tree), model) / "1"
    staged = tree / ".staging" / f"{model}-{version}"
    shutil.copytree(source, staged)
    manifest = dataclasses.replace(load_manifest(staged), version=version)
    (staged / MANIFEST).write_text(render_manifest(manifest))
    return staged.rename(source.with_name(str(version)))


def settle(tree: pathlib.Path) -> None:
    """Makes the files so far a day old: every server that polls has read the last one."""
    path = models_config_path(str(tree))
    history = read_history(path, read_models_config(path), time.time())
    entries = [
        dataclasses.replace(entry, replaced=entry.replaced and entry.replaced - 86400)
        for entry in history.entries
    ]
    write_history(path, dataclasses.replace(history, entries=tuple(entries)))
