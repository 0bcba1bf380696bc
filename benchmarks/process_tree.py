"""A command with all processes that it starts: how long it takes, and its memory."""

import dataclasses
import pathlib
import re
import subprocess
import time
from collections.abc import Iterator, Sequence

_SAMPLE_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status.
        seconds: how long it ran.
        peak: the most memory that all of its processes held at a moment, in bytes. Resident sets
            are added up: what two processes share counts twice.
        said: its output and what it said beside it.
    """

    status: int
    seconds: float
    peak: int
    said: str


def run(command: Sequence[str], log: pathlib.Path) -> Ended:
    """Runs a command to its end.

    Args:
        command: the program and its arguments.
        log: where its output goes to.
    """
    started = time.monotonic()
    peak = 0
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                peak = max(peak, sum(resident(pid) for pid in tree(process.pid)))
                time.sleep(_SAMPLE_SECONDS)
        finally:
            process.kill()
            process.wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    return Ended(process.returncode, time.monotonic() - started, peak, said)


def tree(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(task).split():
            yield from tree(int(child))


def resident(pid: int) -> int:
    """Bytes; 0 of a process that has ended."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", _text(pathlib.Path(f"/proc/{pid}/status")), re.M)
    return 1024 * int(found[1]) if found else 0


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        # The process has ended meanwhile.
        return ""
