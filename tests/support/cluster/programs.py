"""Programs that a test starts and awaits, and hosts that share no disk with one another."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.support.paths import PACKAGES, REPOSITORY

_LOOK_SECONDS = 0.05


class Program:
    """A program with its output in a file.

    Args:
        command: its arguments.
        log: the file.
        environment: all of its environment.
        directory: where it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: pathlib.Path,
        environment: Mapping[str, str],
        directory: pathlib.Path,
    ) -> None:
        self.log = log
        self._temporary = environment["TMPDIR"]
        # It goes with this process, even if that is killed.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*tied, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                # Of its own, so that its children end with it.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def lines(self) -> Iterator[str]:
        """Its lines as they come, until it has ended."""
        with self.log.open(encoding="utf-8", errors="replace") as file:
            rest = ""
            while True:
                # Looked at before the output, which is then whole.
                ended = self.ended
                *whole, rest = (rest + file.read()).split("\n")
                yield from whole
                if ended:
                    if rest:
                        yield rest
                    return
                time.sleep(_LOOK_SECONDS)

    def child(self) -> int | None:
        """Its first child that runs, if there is one."""
        children = (
            int(child)
            for thread in pathlib.Path(f"/proc/{self.pid}/task").glob("*/children")
            for child in thread.read_text().split()
        )
        return next((child for child in children if _runs(child)), None)

    def files(self, pattern: str) -> Iterator[pathlib.Path]:
        """What matches in its folder for temporary files, as it sees it on its host."""
        try:
            yield from pathlib.Path(f"/proc/{self.pid}/root{self._temporary}").glob(pattern)
        except OSError:  # It goes meanwhile.
            return

    def wait_for(self, pattern: str, seconds: float = 300) -> re.Match[str]:
        """What of its output matches, once it is there."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output, re.MULTILINE)):
            if self.ended or time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {self.log}:\n{self.output[-3000:]}")
            time.sleep(_LOOK_SECONDS)
        return found

    def wait(self, seconds: float = 900) -> int:
        """Its exit status, once it has ended."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs: {self.log}:\n{self.output[-3000:]}") from None

    def kill(self) -> None:
        """Ends it and its children at once, without a chance to tidy up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended stays until its parent has awaited it."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def environment(home: pathlib.Path, code: pathlib.Path, **variables: str) -> dict[str, str]:
    """Of a program that has our code from a folder, and its own folder for temporary files."""
    return {
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(code),
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        # As on one machine, where the job sets them: the figures are the same to the last bit.
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        **variables,
    }


def on_a_host(hidden: Sequence[pathlib.Path], command: Sequence[str]) -> list[str]:
    """A command that sees an empty disk in place of each of some folders, and of our source.

    Other hosts do not see what it writes there.
    """
    source = [REPOSITORY / package for package in PACKAGES]
    mounts = [f"mount -t tmpfs none '{folder}'" for folder in (*source, *hidden)]
    script = " && ".join([*mounts, 'exec "$@"'])
    # What is not root's takes a user namespace.
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-c", script, "sh", *command]
