"""Progress on a terminal and elsewhere."""

import os
import pty
import subprocess
import sys
import termios

from pipelines.runtime.progress import report_step, show_progress
from pipelines.store.area import Area
from tests.support.paths import REPOSITORY


def test_steps_are_lines_where_there_is_no_terminal(tmp_path, capfd):
    run = Area(str(tmp_path), "run")
    with show_progress(run, 2):
        report_step(run, "convert", "a/b", 1.25)
        report_step(run, "convert", "a/b", 1.5)
        report_step(run, "publish", "c", 0.0)
    lines = capfd.readouterr().err.splitlines()
    # The step that was told again may have been shown before; it is not counted twice.
    assert [line.split(":")[0] for line in lines] == ["[1/2] convert a/b", "[2/2] publish c"]


def test_work_goes_on_where_the_progress_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("in the way")
    report_step(Area(str(tmp_path), "run"), "convert", "a", 1.0)
    assert (tmp_path / "run").read_text() == "in the way"


def test_terminal_shows_a_bar(tmp_path):
    code = (
        "from pipelines.runtime.progress import show_progress, report_step\n"
        "from pipelines.store.area import Area\n"
        f"run = Area({str(tmp_path)!r}, 'run')\n"
        "with show_progress(run, 4): report_step(run, 'convert', 'model', 2.0)\n"
    )
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=slave, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "convert model: 2.0 s:  25%" in shown
    assert "1/4" in shown
