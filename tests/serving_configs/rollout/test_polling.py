"""The commands beside a server that reads the file again and again, many times a second."""

import contextlib
import pathlib
import random
import time
from collections.abc import Iterator

import pytest

from serving_configs.__main__ import main
from serving_configs.server.models_config import (
    labels_of,
    models_config_path,
    read_models_config,
    versions_of,
)
from tests.support.model_server import Running, running
from tests.support.trees import MODELS, TINY, add_version

POLL = 0.2
# More than a load of the tiny model takes on a busy machine; waiting commands wait for that long.
LOAD = 6.0
PATIENT = ["--poll_seconds", str(POLL), "--load_seconds", str(LOAD), "--wait"]


@contextlib.contextmanager
def polling(tree: pathlib.Path) -> Iterator[Running]:
    with running(
        model_config_file=str(models_config_path(str(tree))),
        model_config_file_poll_wait_seconds=POLL,
        file_system_poll_wait_seconds=POLL,
        allow_version_labels_for_unavailable_models=True,
        enable_model_warmup=False,
    ) as server:
        yield server


def has_taken(server: Running, tree: pathlib.Path) -> bool:
    """Whether the server has the labels of the file, on versions that answer."""
    for model in read_models_config(models_config_path(str(tree))).model_config_list.config:
        states = server.states(model.name)
        if any(states.get(version) != "AVAILABLE" for version in versions_of(model)):
            return False
        if server.server.core.labels(model.name) != labels_of(model):
            return False
    return True


def wait_until_taken(server: Running, tree: pathlib.Path) -> None:
    end = time.monotonic() + 120
    while not has_taken(server, tree):
        assert time.monotonic() < end, (tree / "serving" / "models.config").read_text()
        time.sleep(POLL / 4)


def test_promoting_at_once_is_refused_and_the_server_loads_the_version(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, the server refused the file from then on, and no command freed it."""
    promote = ["promote", "--publish_to", str(tree), "--model", TINY, "--version", "2"]
    with polling(tree) as server:
        add_version(tree, TINY, 2)
        assert main(["write", str(tree)]) == 0
        assert main(promote) == 2
        assert "can't move to version 2" in capsys.readouterr().err
        wait_until_taken(server, tree)
        server.until(TINY, {1: "AVAILABLE", 2: "AVAILABLE"}, 60.0)
        assert main([*promote, *PATIENT]) == 0
        wait_until_taken(server, tree)
        assert main(["rollback", "--publish_to", str(tree), "--model", TINY]) == 0
        wait_until_taken(server, tree)
        assert server.server.core.labels(TINY) == {"canary": 1, "stable": 1}


@pytest.mark.parametrize("seed", [1, 2])
def test_commands_in_any_order_are_all_taken(tree: pathlib.Path, seed: int) -> None:
    chosen = random.Random(seed)
    latest = dict.fromkeys(MODELS, 1)
    with polling(tree) as server:
        for _ in range(12):
            model = chosen.choice(MODELS)
            of = ["--publish_to", str(tree), "--model", model]
            version = ["--version", str(chosen.randint(1, latest[model]))]
            patient = PATIENT if chosen.random() < 0.3 else PATIENT[:-1]
            command = chosen.choice(["publish", "promote", "promote", "label", "rollback"])
            if command == "publish" and latest[model] < 4:
                latest[model] += 1
                add_version(tree, model, latest[model])
                assert main(["write", str(tree)]) == 0
            elif command == "promote":
                main(["promote", *of, *version, *patient])
            elif command == "label":
                main(["label", *of, *version, *patient, "--label", chosen.choice(["canary", "x"])])
            else:
                main(["rollback", *of, *patient])
            time.sleep(chosen.choice([0.0, POLL / 2, 3 * POLL]))
        wait_until_taken(server, tree)
