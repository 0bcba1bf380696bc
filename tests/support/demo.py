"""`make demo` as a process."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.support.paths import REPOSITORY


@contextlib.contextmanager
def demo_process(folder: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
    """The demo as it is run in a terminal -> the page's address, and what was written before it.

    It ends by Ctrl-C, which a terminal sends to all processes of the command.

    Args:
        folder: where it publishes to.
    """
    command = [
        # No installation: this interpreter has all that the demo needs.
        *("make", "--old-file=.venv/installed", "demo", f"RUN={sys.executable}"),
        *(f"DEMO={folder}", "DEMO_PORT=0"),
    ]
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        # A browser that does nothing.
        env={**own, "BROWSER": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        written: list[str] = []
        try:
            for line in process.stdout:
                if line.startswith("page: http://"):
                    yield line.split()[1], written
                    break
                written.append(line)
            else:
                raise AssertionError("".join(written))
        finally:
            started = list(_descendants(process.pid))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(120)
        rest = process.stdout.read()
        assert "Traceback" not in rest, rest
        # The page, and the model server that it had started.
        assert len(started) >= 2
        assert [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()] == []


def _descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that these have."""
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))
