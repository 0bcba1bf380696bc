"""The command that moves labels: on the file, and on a running server."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving_configs import MANIFEST
from serving_configs.__main__ import main
from serving_configs.errors import ConfigError
from serving_configs.rollout.history import history_path
from serving_configs.rollout.servers import Server
from serving_configs.server.models_config import (
    find_model,
    labels_of,
    models_config_path,
    read_models_config,
    set_labels,
    set_versions,
    versions_of,
)
from serving_configs.tree.manifest import load_manifest, record_files, render_manifest
from tests.conftest import REPOSITORY
from tests.serving.conftest import Running, running
from tests.serving_configs.conftest import MODELS, TINY, add_version, settle


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


def test_a_version_goes_from_canary_to_stable_and_back(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    assert state(tree) == ([1, 2], {"canary": 1, "stable": 1})
    settle(tree)
    assert run("label", tree, "--version", "2", "--label", "canary") == 0
    assert state(tree) == ([1, 2], {"canary": 2, "stable": 1})
    capsys.readouterr()
    assert run("promote", tree, "--version", "2") == 0
    assert capsys.readouterr().out == f"{TINY}: canary 2, previous 1, stable 2\n"
    # What a pod reads is what the file says, under the pod's paths.
    manifests = (tree / "deployment" / "kubernetes" / f"{TINY}.yaml").read_text()
    assert 'key: "previous"' in manifests
    assert f'base_path: "/models/{TINY}"' in manifests
    assert run("rollback", tree) == 0
    assert state(tree) == ([1, 2], {"canary": 1, "stable": 1})
    assert state(tree, MODELS[1]) == ([1], {"canary": 1, "stable": 1})
    # What was left stays loaded, also when something else is published, and is returned to.
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    assert state(tree) == ([1, 2, 3], {"canary": 1, "stable": 1})
    assert run("label", tree, "--version", "1", "--label", "next") == 0
    assert run("rollback", tree) == 0
    assert state(tree) == ([1, 2, 3], {"canary": 2, "next": 1, "stable": 2})


def test_a_label_does_not_move_before_servers_can_have_loaded_the_version(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was written a moment ago: a server that polls would refuse the next for ever."""
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    for command in ("promote", "label", "rollback"):
        flags = ["--label", "canary"] if command == "label" else []
        with refused(tree, capsys, "can't move to version 2", "660 s", "--wait", "--server"):
            assert run(command, tree, "--version", "2", *flags) == 2
    # A label that no server has yet may name anything.
    assert run("label", tree, "--version", "2", "--label", "next") == 0
    with refused(tree, capsys, "can't move to version 2"):
        assert run("promote", tree, "--version", "2") == 2
    settle(tree)
    assert run("promote", tree, "--version", "2") == 0
    # Going back is at once.
    assert run("rollback", tree) == 0
    assert state(tree)[1] == {"canary": 1, "next": 2, "stable": 1}


def test_waiting_names_the_version_first(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(tree, TINY, 2)
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    settle(tree)
    with refused(tree, capsys, "does not name version 2", "--wait names it"):
        assert run("promote", tree, "--version", "2") == 2
    seen: set[tuple[int, ...]] = set()
    moved = threading.Event()

    def watch() -> None:
        while not moved.is_set():
            versions, labels = state(tree)
            if labels["stable"] == 1:
                seen.add(tuple(versions))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        flags = ["--wait", "--poll_seconds", "0.2", "--load_seconds", "0.3"]
        assert run("promote", tree, "--version", "2", *flags) == 0
    finally:
        moved.set()
        watching.join()
    # The deployment files are those of the last step.
    assert (1, 2, 3) in seen
    assert "waiting 1 s" in capsys.readouterr().err
    assert state(tree) == ([1, 2, 3], {"canary": 2, "previous": 1, "stable": 2})


def test_a_file_that_somebody_else_wrote_is_waited_for(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    settle(tree)
    # As a tree of an earlier version of this program, or after an editor.
    history_path(models_config_path(str(tree))).unlink()
    with refused(tree, capsys, "can't move to version 2", "s, or with --wait"):
        assert run("promote", tree, "--version", "2") == 2
    os.utime(models_config_path(str(tree)), (time.time() - 661, time.time() - 661))
    assert run("promote", tree, "--version", "2") == 0


@pytest.mark.parametrize("flag", ["--poll_seconds", "--load_seconds"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_times_are_checked(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    with refused(tree, capsys, f"{flag} {value}", "expected seconds"):
        assert run("rollback", tree, "--version", "1", flag, value) == 2


def test_what_is_not_there_or_does_not_verify_is_refused(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refused(tree, capsys, f"{TINY}: no version 2; it has 1"):
        assert run("promote", tree, "--version", "2") == 2
    version = add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    data = version / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with refused(tree, capsys, "version 2", "does not verify", data.name):
        assert run("promote", tree, "--version", "2") == 2
    with refused(tree, capsys, "no model 'other'"):
        assert run("promote", tree, "--version", "1", model="other") == 2
    with refused(tree, capsys, "no label previous"):
        assert run("rollback", tree) == 2
    # An old version, which servers have dropped.
    content[100] ^= 1
    data.write_bytes(content)
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    with refused(tree, capsys, "can't move to version 2", "--server", "--wait"):
        assert run("promote", tree, "--version", "2") == 2


def test_a_tree_without_a_config_or_versions_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("promote", tmp_path, "--version", "1") == 2
    assert "models.config: no such file" in capsys.readouterr().err
    assert main(["write", str(tmp_path)]) == 2
    assert "no published version" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


_EDITOR = """
import sys
from serving_configs.__main__ import main
tree, model, *names = sys.argv[1:]
for name in names:
    flags = ["--publish_to", tree, "--model", model, "--version", "1", "--label", name]
    assert main(["label", *flags]) == 0
"""


def test_editors_at_the_same_time_lose_nothing(tree: pathlib.Path) -> None:
    names = [[f"of-{editor}-{number}" for number in range(5)] for editor in range(3)]
    editors = [
        subprocess.Popen([sys.executable, "-c", _EDITOR, str(tree), TINY, *own], cwd=REPOSITORY)
        for own in names
    ]
    # A reader sees a whole file at every moment.
    while any(editor.poll() is None for editor in editors):
        state(tree)
    assert [editor.returncode for editor in editors] == [0, 0, 0]
    assert set(state(tree)[1]) == {"canary", "stable", *(name for own in names for name in own)}
    assert {p.name for p in (tree / "serving").iterdir() if p.name.startswith(".")} == {
        ".models.config.history.json",
        ".models.config.lock",
    }


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
