"""The staging area: dead runs' directories go, live ones' stay, and nothing is left at the end."""

import multiprocessing
import os
import pathlib
import threading
import time

import pytest

from pipelines.store.local_area import local_area

HOUR = 3600.0


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "tree" / ".staging"


def make_old(path: pathlib.Path, seconds: float = 2 * HOUR) -> None:
    then = time.time() - seconds
    for entry in (*path.rglob("*"), path):
        os.utime(entry, (then, then))


def dead_run(root: pathlib.Path, name: str = "dead") -> pathlib.Path:
    (root / name / "attempt").mkdir(parents=True)
    (root / name / "attempt" / "saved_model.pb").write_text("half")
    return root / name


def test_directory_is_there_and_then_gone_with_the_area(root):
    with local_area(root, HOUR) as directory:
        assert directory.parent == root
        (directory / "file").write_text("x")
    assert not root.exists()
    assert root.parent.exists()


def test_directory_goes_when_the_run_fails(root):
    def fail() -> None:
        with local_area(root, HOUR) as directory:
            (directory / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not root.exists()


def test_what_is_stale_goes_and_what_is_fresh_stays(root):
    old, fresh = dead_run(root, "old"), dead_run(root, "fresh")
    (root / "stray").write_text("x")
    make_old(old)
    make_old(root / "stray")
    with local_area(root, HOUR):
        assert not old.exists()
        assert not (root / "stray").exists()
        assert fresh.exists()
    assert fresh.exists()


def test_directory_whose_files_still_change_is_fresh(root):
    run = dead_run(root)
    make_old(run)
    (run / "attempt" / "variables").write_text("from a worker that is still at it")
    make_old(run / "attempt" / "saved_model.pb")
    with local_area(root, HOUR):
        assert run.exists()


def test_live_run_stays_however_old_it_is(root):
    with local_area(root, 0.0) as live:
        (live / "file").write_text("x")
        make_old(live)
        with local_area(root, 0.0) as other:
            assert live.exists()
            assert other != live
        assert (live / "file").exists()
    assert not root.exists()


def _hold(root: str, connection) -> None:
    with local_area(pathlib.Path(root), HOUR) as directory:
        connection.send(str(directory))
        connection.recv()


@pytest.mark.slow
def test_run_that_was_killed_is_stale_once_it_is_old(root):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(str(root), theirs))
    process.start()
    directory = pathlib.Path(ours.recv())
    make_old(directory)
    with local_area(root, HOUR):
        assert directory.exists()
    process.kill()
    process.join()
    assert directory.exists()
    with local_area(root, HOUR):
        assert not directory.exists()
    assert not root.exists()


def test_runs_that_come_and_go_at_once_do_not_disturb_each_other(root):
    problems = []
    barrier = threading.Barrier(6)

    def run() -> None:
        try:
            barrier.wait()
            for _ in range(40):
                with local_area(root, 0.0) as directory:
                    (directory / "file").write_text("x")
                    assert (directory / "file").read_text() == "x"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert not root.exists()
