"""The commands that move labels, as tests run them, and what they leave in the tree."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from serving_configs.__main__ import main
from serving_configs.server.models_config import (
    find_model,
    labels_of,
    models_config_path,
    read_models_config,
    versions_of,
)
from tests.support.trees import TINY


def state(tree: pathlib.Path, model: str = TINY) -> tuple[list[int], dict[str, int]]:
    entry = find_model(read_models_config(models_config_path(str(tree))), model)
    return versions_of(entry), labels_of(entry)


def run(command: str, tree: pathlib.Path, *flags: str, model: str = TINY) -> int:
    return main([command, "--publish_to", str(tree), "--model", model, *flags])


def files(tree: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for part in ("serving/models.config", "deployment")
        for path in sorted([tree / part, *(tree / part).rglob("*")])
        if path.is_file()
    }


@contextlib.contextmanager
def refused(tree: pathlib.Path, capsys: pytest.CaptureFixture[str], *parts: str) -> Iterator[None]:
    """The command inside writes one line with these parts, and nothing else."""
    before = files(tree)
    capsys.readouterr()
    yield
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err
    assert files(tree) == before
