"""Progress on a terminal and elsewhere."""

import os
import pty
import subprocess
import sys
import termios

from pipelines.runtime.progress import follow, tell
from tests.conftest import REPOSITORY


def test_steps_are_lines_where_there_is_no_terminal(tmp_path, capfd):
    directory = tmp_path / "progress"
    with follow(directory, 2):
        tell(str(directory), "convert", "a/b", 1.25)
        tell(str(directory), "convert", "a/b", 1.5)
        tell(str(directory), "publish", "c", 0.0)
    lines = capfd.readouterr().err.splitlines()
    # The step that was told again may have been shown before; it is not counted twice.
    assert [line.split(":")[0] for line in lines] == ["[1/2] convert a/b", "[2/2] publish c"]


def test_nothing_is_told_where_no_disk_is_shared(tmp_path):
    tell(str(tmp_path / "none"), "convert", "a", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_terminal_shows_a_bar(tmp_path):
    code = (
        "from pipelines.runtime.progress import follow, tell; import pathlib\n"
        f"d = pathlib.Path({str(tmp_path / 'progress')!r})\n"
        "with follow(d, 4): tell(str(d), 'convert', 'model', 2.0)\n"
    )
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=slave, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "convert model: 2.0 s:  25%" in shown
    assert "1/4" in shown
