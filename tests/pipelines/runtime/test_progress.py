"""Progress on a terminal and elsewhere."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from typing import Any

from pipelines.runtime import progress
from pipelines.runtime.progress import ImageCounter, Step, report_step, show_progress
from pipelines.store.area import Area
from tests.support.paths import REPOSITORY


def test_steps_are_lines_where_there_is_no_terminal(tmp_path, capfd):
    run = Area(str(tmp_path), "run")
    with show_progress(run, 2):
        report_step(run, Step("convert", "a/b", "", 1.25))
        report_step(run, Step("convert", "a/b", "", 1.5))
        report_step(run, Step("publish", "c", "", 0.0))
    lines = capfd.readouterr().err.splitlines()
    # The step that was told again may have been shown before; it is not counted twice.
    assert [line.split(":")[0] for line in lines] == ["[1/2] convert a/b", "[2/2] publish c"]


def test_work_goes_on_where_the_progress_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("in the way")
    report_step(Area(str(tmp_path), "run"), Step("convert", "a", "", 1.0))
    assert (tmp_path / "run").read_text() == "in the way"


def test_a_running_step_says_how_far_it_is(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(progress, "_RENEW_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    run = Area(str(tmp_path), "run")
    seen = threading.Event()
    written = progress._Lines.step

    def step(self, *arguments: Any) -> None:
        written(self, *arguments)
        seen.set()

    monkeypatch.setattr(progress._Lines, "step", step)
    with show_progress(run, 1, poll_seconds=0.01):
        count = ImageCounter(run, Step("validate", "m", "shard-1", 0.0, all_images=40))
        count(10)
        assert seen.wait(60)
        count(30)
        count.finish()
    first, *_, last = capfd.readouterr().err.splitlines()
    assert re.fullmatch(
        r"validate m on shard-1: 10 of 40 images, [\d.]+ images/s, 0:00:\d\d left", first
    )
    assert re.fullmatch(r"\[1/1\] validate m on shard-1: \d+\.\d s", last)


def test_images_in_words() -> None:
    assert Step("evaluate", "m", "s", 4.0, 8).images_in_words == "8 images, 2.0 images/s"
    half = Step("evaluate", "m", "s", 100.0, 200, 7400).images_in_words
    assert half == "200 of 7400 images, 2.0 images/s, 1:00:00 left"
    assert Step("evaluate", "m", "s", 0.0, 0, 5).images_in_words == "0 images, 0.0 images/s"


def test_terminal_shows_a_bar_and_a_row_for_each_model(tmp_path):
    code = (
        "from pipelines.runtime.progress import Step, report_step, show_progress\n"
        "from pipelines.store.area import Area\n"
        f"run = Area({str(tmp_path)!r}, 'run')\n"
        "with show_progress(run, 4):\n"
        "    report_step(run, Step('convert', 'model', '', 2.0))\n"
        "    for name in 'ab':\n"
        "        report_step(run, Step('validate', name, 's', 2.0, 4, 10, done=False))\n"
    )
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=slave, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "convert model: 2.0 s:  25%" in shown
    assert "1/4" in shown
    for name in "ab":
        assert f"validate {name} on s: 4 of 10 images, 2.0 images/s, 0:00:03 left" in shown
