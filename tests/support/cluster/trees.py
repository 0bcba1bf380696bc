"""Published trees of two runs, compared."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pipelines.store.base import Store, read
from pipelines.verify import main as verify
from serving_configs import MANIFEST, parse_manifest
from serving_configs.tree.manifest import FOR_SERVERS
from tests.support.publishers import Tree

# What depends on the run, or on the speed of its machine.
_OF_THE_RUN = {"run", "measured", "files"}
_REPORTED = ("model", "version", "failures", "parameters", "worst", "images", "figures", "bytes")


def versions(tree: Tree) -> dict[str, Any]:
    """What each version is, but for what a run measures.

    Returns:
        `<model>/<version> <file>` -> its digest; `<model>/<version> <name>` -> what the manifest
        says.
    """
    store = tree.open()
    return {
        f"{model}/{number} {name}": value
        for model in store.children("serving")
        for number in store.children(f"serving/{model}")
        if number.isdecimal()
        for name, value in _version(store, f"serving/{model}/{number}")
    }


def _version(store: Store, path: str) -> Iterator[tuple[str, Any]]:
    manifest = parse_manifest(read(store, f"{path}/{MANIFEST}"))
    yield "content", manifest.content
    for name, value in dataclasses.asdict(manifest).items():
        if name not in _OF_THE_RUN:
            yield name, value
    for name in store.sizes(path):
        if not name.startswith(FOR_SERVERS):
            yield name, hashlib.sha256(read(store, f"{path}/{name}")).hexdigest()


def figures(tree: Tree) -> list[dict[str, Any]]:
    """What the report says of each model, but for what a run measures."""
    report = json.loads(read(tree.open(), "report.json"))
    return [{name: model[name] for name in _REPORTED} for model in report["models"]]


def check_tree(tree: Tree, local: Tree) -> None:
    """That it has what one process publishes to a disk, and nothing else."""
    assert versions(tree) == versions(local)
    assert figures(tree) == figures(local)
    assert verify([tree.root, *tree.options]) == 0
    assert tree.open().children(".staging") == []
