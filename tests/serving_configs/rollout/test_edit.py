"""The commands that move labels, on the file."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from serving_configs.__main__ import main
from serving_configs.rollout.history import history_path
from serving_configs.server.models_config import (
    models_config_path,
)
from tests.support.paths import REPOSITORY
from tests.support.rollout_commands import refused, run, state
from tests.support.trees import MODELS, TINY, add_version, settle


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
    # Nor is it by a command that moves nothing.
    assert run("label", tree, "--version", "1", "--label", "canary") == 0
    assert state(tree) == ([1, 2, 3], {"canary": 1, "stable": 1})
    assert run("rollback", tree) == 0
    assert state(tree) == ([1, 2, 3], {"canary": 2, "stable": 2})


def test_a_rollback_is_not_undone_by_one_that_means_a_later_canary(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 2 was gone away from: nobody who takes version 3 back wants it."""
    alone = ["--poll_seconds", "0"]
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    assert run("promote", tree, "--version", "2", *alone) == 0
    assert run("rollback", tree, *alone) == 0
    add_version(tree, TINY, 3)
    assert main(["write", str(tree)]) == 0
    assert run("label", tree, "--version", "3", "--label", "canary", *alone) == 0
    # What was left is loaded no longer.
    assert state(tree) == ([1, 3], {"canary": 3, "stable": 1})
    remedy = "with --version, or take canary back with: label --label canary --version 1"
    with refused(tree, capsys, f"{TINY} has no label previous", remedy):
        assert run("rollback", tree, *alone) == 2
    assert run("label", tree, "--version", "1", "--label", "canary", *alone) == 0
    assert state(tree) == ([1, 3], {"canary": 1, "stable": 1})


def test_a_label_does_not_move_before_servers_can_have_loaded_the_version(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was written a moment ago: a server that polls would refuse the next for ever."""
    add_version(tree, TINY, 2)
    assert main(["write", str(tree)]) == 0
    for command in ("promote", "label", "rollback"):
        flags = ["--label", "canary"] if command == "label" else []
        # Of both labels, the one that matters more.
        label = "label canary of" if command == "label" else "label stable of"
        with refused(tree, capsys, label, "can't move to version 2", "660 s", "--wait", "--server"):
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
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commands say every minute that they wait.
    monkeypatch.setattr("serving_configs.rollout.edit._REPORT_EVERY", 0.3)
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
    first, *later = capsys.readouterr().err.splitlines()
    assert first.startswith("waiting 1 s: servers that read models.config")
    assert set(later) == {"waiting 1 s more"}
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
