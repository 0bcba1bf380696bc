"""A published tree of a tiny model of both heads, put there by the pipeline."""

import dataclasses
import pathlib
import shutil
import time

import pytest

from export.variants import VARIANTS, CaiTConfig, Variant
from serving_configs import MANIFEST, base_path
from serving_configs.rollout.history import read_history, write_history
from serving_configs.server.models_config import models_config_path, read_models_config
from serving_configs.tree.manifest import load_manifest, render_manifest

TINY = "cait_tiny_32"
MODELS = (TINY, f"{TINY}_fe")


@pytest.fixture(scope="session")
def published_tree(tmp_path_factory: pytest.TempPathFactory, data: pathlib.Path) -> pathlib.Path:
    """The tree of one run of the publish pipeline. Not to be written to."""
    from pipelines.publish.command import main

    tree = tmp_path_factory.mktemp("published") / "tree"
    config = CaiTConfig(32, 16, 32, 2, 2, num_classes=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, TINY, Variant(TINY, config, 0, 2.5, 78.5, 94.2, ""))
        status = main(
            [
                *("--variants", TINY, "--checkpoints", "random"),
                *("--sample_shard", str(data / "sample-shard-*"), "--publish_to", str(tree)),
            ]
        )
    assert status == 0
    return tree


@pytest.fixture
def tree(published_tree: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may write to; its models.config names the copy's own paths."""
    copy = pathlib.Path(shutil.copytree(published_tree, tmp_path / "tree"))
    config = copy / "serving" / "models.config"
    config.write_text(config.read_text().replace(str(published_tree), str(copy)))
    return copy


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
