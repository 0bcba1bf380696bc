"""The commands that move labels, on servers that are running."""

import contextlib
import dataclasses
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving_configs import MANIFEST, load_manifest, record_files, render_manifest
from serving_configs.__main__ import main
from serving_configs.errors import ConfigError
from serving_configs.rollout.servers import Server
from serving_configs.server.models_config import (
    find_model,
    models_config_path,
    read_models_config,
    set_labels,
    set_versions,
)
from tests.support.model_server import Running, running
from tests.support.rollout_commands import files, refused, run, state
from tests.support.trees import TINY, add_version, settle


@contextlib.contextmanager
def serving(tree: pathlib.Path) -> Iterator[Running]:
    with running(
        model_config_file=str(tree / "serving" / "models.config"),
        allow_version_labels_for_unavailable_models=True,
        enable_model_warmup=False,
    ) as server:
        yield server


def test_a_running_server_is_never_asked_for_what_it_has_not(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a version to one that the server does not know of yet, under requests by label."""
    with serving(tree) as server:
        address = f"127.0.0.1:{server.port}"
        images = {"images": np.zeros((1, 32, 32, 3), np.float32)}
        failures: list[Any] = []
        asked = 0
        done = threading.Event()

        def ask() -> None:
            nonlocal asked
            while not done.is_set():
                try:
                    server.predict(TINY, images, label="stable")
                    asked += 1
                except Exception as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            add_version(tree, TINY, 2)
            add_version(tree, TINY, 3)
            alone = ["--server", address, "--poll_seconds", "0"]
            assert run("promote", tree, "--version", "3", *alone) == 0
            assert state(tree) == ([1, 3], {"canary": 3, "previous": 1, "stable": 3})
            server.until(TINY, {1: "AVAILABLE", 3: "AVAILABLE"}, 120.0)
            assert run("promote", tree, "--version", "2", *alone) == 0
            server.until(TINY, {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"}, 120.0)
            assert run("rollback", tree, "--server", address) == 0
            before = asked
            end = time.monotonic() + 60
            while asked < before + 3 and not failures and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            done.set()
            asking.join()
        assert not failures
        assert asked >= 3
        assert server.server.core.labels(TINY) == state(tree)[1]
        # A version that does not load leaves the server and the file as they were.
        broken = add_version(tree, TINY, 4)
        _break(broken)
        with refused(tree, capsys, f"server {address}", "version 4 does not load"):
            assert run("promote", tree, "--version", "4", *alone) == 2
        assert server.server.core.labels(TINY) == state(tree)[1]
        server.until(TINY, {1: "END", 2: "AVAILABLE", 3: "AVAILABLE", 4: "END"}, 120.0)
    with refused(tree, capsys, f"server {address}", "UNAVAILABLE"):
        assert run("rollback", tree, *alone) == 2


def test_a_server_that_refused_the_file_is_freed_by_every_command(tree: pathlib.Path) -> None:
    """Somebody wrote version and label in one step, and the server polls no more."""
    with serving(tree) as server:
        address = f"127.0.0.1:{server.port}"
        add_version(tree, TINY, 2)
        for command in ("promote", "rollback", "label"):
            assert main(["write", str(tree)]) == 0
            assert run("promote", tree, "--version", "2", "--poll_seconds", "0") == 0
            config = read_models_config(models_config_path(str(tree)))
            with contextlib.closing(Server(address, 60.0)) as client:
                with pytest.raises(ConfigError, match="Request to assign label to version 2"):
                    client.reload(config)
                assert client.labels(TINY, ["stable", "other"]) == {"stable": 1}
            flags = {
                "promote": ["--version", "2"],
                "rollback": [],
                "label": ["--version", "2", "--label", "next"],
            }[command]
            freed = run(command, tree, "--server", address, "--poll_seconds", "0", *flags)
            assert freed == 0, command
            assert server.server.core.labels(TINY) == state(tree)[1]
            server.until(TINY, {1: "AVAILABLE", 2: "AVAILABLE"}, 120.0)
            # As it was at first: version 1 alone, in the file and on the server.
            models_config_path(str(tree)).write_text(
                models_config_path(str(tree)).read_text().replace("value: 2", "value: 1")
            )
            entry = find_model(config, TINY)
            set_labels(entry, {"canary": 1, "stable": 1})
            with contextlib.closing(Server(address, 60.0)) as client:
                client.reload(config)
                set_versions(entry, [1])
                client.reload(config)
            server.until(TINY, {1: "AVAILABLE", 2: "END"}, 120.0)


def test_a_broken_version_beside_it_stops_no_rollback(tree: pathlib.Path) -> None:
    """The latest one is loaded for those who ask for no label; the label's is what counts."""
    with serving(tree) as server:
        alone = ["--server", f"127.0.0.1:{server.port}", "--poll_seconds", "0"]
        add_version(tree, TINY, 2)
        assert run("promote", tree, "--version", "2", *alone) == 0
        _break(add_version(tree, TINY, 3))
        assert main(["write", str(tree)]) == 0
        assert run("rollback", tree, *alone) == 0
        assert server.server.core.labels(TINY) == state(tree)[1] == {"canary": 1, "stable": 1}
        server.until(TINY, {1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}, 120.0)


def test_the_file_no_longer_names_what_a_server_does_not_load(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _break(add_version(tree, TINY, 2))
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    with serving(tree) as server:
        settle(tree)
        before = files(tree)
        flags = ["--server", f"127.0.0.1:{server.port}", "--poll_seconds", "0.1"]
        assert run("promote", tree, "--version", "2", *flags, "--load_seconds", "2") == 2
        waiting, error = capsys.readouterr().err.splitlines()
        # It was named meanwhile, for servers that read the file.
        assert waiting.startswith("waiting 3 s: servers that read models.config every 0.1 s")
        assert "version 2 does not load" in error
        assert files(tree) == before


def _break(version: pathlib.Path) -> None:
    """Makes a version that verifies and does not load."""
    (version / "saved_model.pb").write_bytes(b"no graph")
    manifest = dataclasses.replace(load_manifest(version), files=record_files(version))
    (version / MANIFEST).write_text(render_manifest(manifest))
