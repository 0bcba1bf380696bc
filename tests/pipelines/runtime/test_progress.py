"""Progress on a terminal and elsewhere."""

import os
import pty
import subprocess
import sys
import termios

from pipelines.runtime.progress import report_step, show_progress
from tests.support.paths import REPOSITORY


def test_steps_are_lines_where_there_is_no_terminal(tmp_path, capfd):
    directory = tmp_path / "progress"
    with show_progress(directory, 2):
        report_step(str(directory), "convert", "a/b", 1.25)
        report_step(str(directory), "convert", "a/b", 1.5)
        report_step(str(directory), "publish", "c", 0.0)
    lines = capfd.readouterr().err.splitlines()
    # The step that was told again may have been shown before; it is not counted twice.
    assert [line.split(":")[0] for line in lines] == ["[1/2] convert a/b", "[2/2] publish c"]


def test_nothing_is_told_where_no_disk_is_shared(tmp_path):
    report_step(str(tmp_path / "none"), "convert", "a", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_terminal_shows_a_bar(tmp_path):
    code = (
        "from pipelines.runtime.progress import show_progress, report_step; import pathlib\n"
        f"d = pathlib.Path({str(tmp_path / 'progress')!r})\n"
        "with show_progress(d, 4): report_step(str(d), 'convert', 'model', 2.0)\n"
    )
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=slave, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "convert model: 2.0 s:  25%" in shown
    assert "1/4" in shown
