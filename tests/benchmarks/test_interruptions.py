"""Runs that end at a random moment, a few of them; and the faults that the command looks for."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks import interruptions
from benchmarks.interruptions import FaultError
from tests.support.publishers import MODELS, local_tree, publish, write_files


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        check=False,
        capture_output=True,
    ).returncode
    != 0,
    reason="filesystems cannot be mounted here",
)
def test_a_short_run_shows_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    assert interruptions.main(["--runs=2", "--seed=1"]) == 0
    said = capfd.readouterr()
    assert "fault" not in said.err
    for end in ("SIGINT", "SIGTERM"):
        assert f"\n| {end} | 1 | " in said.out


class Ended(interruptions._Run):
    """A run that has ended, with what it said and what is left of it."""

    def __init__(self, lines: list[str], left: list[int]) -> None:
        self._lines, self._left = lines, left

    def lines(self) -> list[str]:
        return self._lines

    def left(self) -> list[int]:
        return self._left


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    publish(local_tree(tmp_path / "tree"), write_files(tmp_path / "m"), MODELS[:1], "a")
    return tmp_path / "tree"


def version(tree: pathlib.Path) -> pathlib.Path:
    return tree / "serving" / MODELS[0] / "1"


ONE = ["interrupted by SIGINT; nothing was published"]
Change = Callable[[pathlib.Path], object]
FAULTS: dict[str, tuple[Ended, str, int, Change, str]] = {
    "status": (Ended(ONE, []), "SIGINT", 1, lambda tree: None, "exit status 1: "),
    "lines": (Ended([*ONE, "Traceback"], []), "SIGINT", 130, lambda tree: None, "said 2 lines"),
    "a word when all is done": (Ended(ONE, []), "SIGINT", 0, lambda tree: None, "said 1 lines"),
    "process": (Ended(ONE, [1]), "SIGTERM", 143, lambda tree: None, r"processes are left: \[1\]"),
    "staging": (
        *(Ended(ONE, []), "full disk", 1),
        *(lambda tree: (tree / ".staging" / "run").mkdir(parents=True), "staging is left"),
    ),
    "half a version": (
        *(Ended([], []), "SIGKILL", -9),
        *(lambda tree: (version(tree) / "saved_model.pb").unlink(), r"saved_model\.pb is missing"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault: str, tree: pathlib.Path) -> None:
    run, end, status, change, message = FAULTS[fault]
    change(tree)
    with pytest.raises(FaultError, match=message):
        interruptions._check(tree, run, end, status)


def test_what_a_killed_run_leaves_is_no_fault(tree: pathlib.Path) -> None:
    (tree / ".staging" / "run").mkdir(parents=True)
    interruptions._check(tree, Ended([], []), "SIGKILL", -9)


def test_processes_of_a_session_are_found(tmp_path: pathlib.Path) -> None:
    run = Ended([], [])
    run.process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    assert interruptions._Run.left(run) == [run.process.pid]
    run.process.communicate(b"\n")
    assert interruptions._Run.left(run) == []
