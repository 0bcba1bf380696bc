"""Publish runs that end at a random moment: by SIGINT, SIGTERM, SIGKILL, or a disk that is full.

    python -m benchmarks.interruptions [--runs 50]

Each is a run of the publish job on a variant of two blocks, which publishes a version with a number
of its own. The tree is on a small filesystem in memory, which is mounted in a namespace of this
command's own.

After each, every version, archive and config of the tree has to verify, no process of the run may
be there, and the command may have said one line at most beside its progress, but for the workers of
one that was killed. After a signal that it can take, and after a full disk, nothing may be in the
staging area; what a SIGKILL leaves there has to be gone after the next run that completes.

Prints a table. Exit status: 0 when no fault showed, 1 when one did.
"""

import argparse
import collections
import contextlib
import dataclasses
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from pipelines.store.base import open_store
from pipelines.verify import tree_problems
from serving_configs.tree.paths import STAGING
from signatures.addresses import disk_path
from signatures.quiet import load_tensorflow
from tests.support.paths import DATA, REPOSITORY
from tests.support.trees import TINY

from .table import as_markdown, machine

HEADER = ("ended by", "runs", "before they were done", "exit status", "took to end, seconds")
FULL = "full disk"
FAULTS = (signal.SIGINT.name, signal.SIGTERM.name, signal.SIGKILL.name, FULL)
# Of so many runs one completes, and every third has workers of its own.
_COMPLETED = 10
_WITH_WORKERS = 3
_SIGNALS = {fault: signal.Signals[fault].value for fault in FAULTS if fault != FULL}
_STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9, FULL: 1}
_TREE_BYTES = 256 << 20
_PROCESSES_SECONDS = 200.0
"""For workers of a killed run. Those that are starting wait a minute each for three connections."""
_END_SECONDS = 300.0
_PYTHON_SECONDS = 0.5
"""Before that Python itself may not have begun with the command."""
_PROGRESS = re.compile(r"\[\d+/\d+\] .*|note: .*|(INFO|WARNING):.*")


class FaultError(AssertionError):
    """A fault showed."""


@dataclasses.dataclass
class Faults:
    """What was seen of a kind of end.

    Attributes:
        statuses: exit status -> how many runs.
        seconds: how long each took to end.
    """

    statuses: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    seconds: list[float] = dataclasses.field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.interruptions")
    parser.add_argument("--runs", type=int, default=50, help="how many end at a random moment")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--place",
        type=disk_path,
        help="an empty filesystem for the tree, which is filled up (default: one of 256 MiB in "
        "memory, mounted for this command alone)",
    )
    flags = parser.parse_args(argv)
    if flags.place is None:
        return _in_memory([f"--runs={flags.runs}", f"--seed={flags.seed}"])
    try:
        rows = interrupt(flags.place, flags.runs, flags.seed)
    except FaultError as error:
        print(f"fault: {error}", file=sys.stderr)
        return 1
    print(as_markdown(HEADER, rows))
    print(f"\nOn {machine()}.")
    return 0


def _in_memory(flags: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as place:
        mount = f'mount -t tmpfs -o size={_TREE_BYTES} tmpfs "$0" && exec "$@"'
        command = [sys.executable, "-m", "benchmarks.interruptions", f"--place={place}", *flags]
        return subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, place, *command],
            check=False,
        ).returncode


def interrupt(place: pathlib.Path, runs: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Ends publish runs at random moments, each kind of end as often as the others.

    Args:
        place: the root of a filesystem of its own.
        runs: how many.
        seed: of the moments.

    Returns:
        The rows of the table.

    Raises:
        FaultError: see the module.
    """
    moments = random.Random(seed)
    tree, inputs = place / "tree", place / "inputs"
    inputs.mkdir()
    load_tensorflow()
    from tests.support.labelled_records import write_shard

    photos = [DATA / "photos" / name for name in ("cat.jpg", "tiny.png")]
    write_shard(inputs / "sample", [(photo.read_bytes(), None) for photo in photos])
    longest = 1.1 * _complete(tree, inputs, 0)
    seen = {fault: Faults() for fault in FAULTS}
    for number in range(1, runs + 1):
        fault = FAULTS[(number - 1) % len(FAULTS)]
        workers = 2 if number // len(FAULTS) % _WITH_WORKERS == _WITH_WORKERS - 1 else 1
        run = _Run(tree, inputs, 10 * number, workers)
        wait = moments.uniform(_PYTHON_SECONDS, longest)
        try:
            status, seconds = _end(run, fault, wait, place / "filler")
            _check(tree, run, fault, status)
        except FaultError as error:
            raise FaultError(f"run {number}, {fault} after {wait:.2f} s: {error}") from None
        line = f"[{number}/{runs}] {fault} after {wait:.1f} s: exit status {status}"
        print(line, file=sys.stderr, flush=True)
        seen[fault].statuses[status] += 1
        seen[fault].seconds.append(seconds)
        if number % _COMPLETED == 0:
            _complete(tree, inputs, number)
    _complete(tree, inputs, runs + 1)
    return [_row(fault, faults) for fault, faults in seen.items()]


class _Run:
    """A run of the publish job as a process.

    Args:
        tree: where to.
        inputs: the directory of the sample.
        version: the number of the version that it publishes.
        workers: how many processes of its own it has.
    """

    def __init__(
        self, tree: pathlib.Path, inputs: pathlib.Path, version: int, workers: int
    ) -> None:
        command = [
            *(sys.executable, "-m", "tests.support.publish_tiny", "--variants", TINY),
            *("--heads", "classifier", "--checkpoints", "random", "--version", str(version)),
            *("--sample_shard", str(inputs / "sample"), "--publish_to", str(tree)),
            # What runs that were killed have left is old at once.
            *("--staging_ttl", "0", "--keep_versions", "2"),
        ]
        if workers > 1:
            command += [
                "--direct_running_mode=multi_processing",
                f"--direct_num_workers={workers}",
            ]
        self.workers = workers
        self.said = inputs / "said"
        self.started = time.monotonic()
        with self.said.open("wb") as said:
            # In a session of its own, by which all of its processes are found.
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                # A shell starts what it runs in its background with SIGINT ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def lines(self) -> list[str]:
        """What it said that is no progress."""
        lines = self.said.read_text(errors="replace").splitlines()
        return [line for line in lines if not _PROGRESS.fullmatch(line)]

    def left(self) -> list[int]:
        """Its processes."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = entry.read_text(errors="replace").rpartition(")")[2].split()
                state, session = fields[0], fields[3]
                if int(session) == self.process.pid and state not in "ZX":
                    found.append(int(entry.parent.name))
        return found


def _end(run: _Run, fault: str, wait: float, filler: pathlib.Path) -> tuple[int, float]:
    """Lets a run be for some seconds, and ends it.

    Returns:
        Its exit status, and how many seconds the end took.
    """
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(wait)
        ended = time.monotonic()
        if run.process.poll() is None:
            if fault == FULL:
                _fill(filler)
            else:
                run.process.send_signal(signal.Signals[fault])
        return run.process.wait(_END_SECONDS), time.monotonic() - ended
    except subprocess.TimeoutExpired:
        raise FaultError(f"it has not ended after {_END_SECONDS} s: {run.left()}") from None
    finally:
        filler.unlink(missing_ok=True)
        run.process.kill()


def _fill(filler: pathlib.Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))


def _check(tree: pathlib.Path, run: _Run, fault: str, status: int) -> None:
    """Looks at what an ended run has left.

    Raises:
        FaultError: see the module.
    """
    lines = run.lines()
    # Python takes no signals any more when all is done and it ends.
    if status not in (0, _STATUS[fault], -_SIGNALS.get(fault, 0)):
        raise FaultError(f"exit status {status}: {lines[-3:]}")
    # It may have been done with all, and ending. What a worker that is starting says of a run that
    # was killed is Beam's alone: nothing of this project is loaded there yet.
    killed = fault == signal.SIGKILL.name
    if len(lines) > (status != 0 and not killed) and not (killed and run.workers > 1):
        raise FaultError(f"said {len(lines)} lines: {lines[:3]}")
    end = time.monotonic() + _PROCESSES_SECONDS
    while left := run.left():
        # Workers notice that a run was killed when their connection breaks.
        if fault != signal.SIGKILL.name or time.monotonic() > end:
            raise FaultError(f"processes are left: {left}")
        time.sleep(0.1)
    if fault != signal.SIGKILL.name:
        _require_no_staging(tree)
    for path, problems in tree_problems(open_store(str(tree))):
        if problems:
            raise FaultError(f"{path}: {problems[:3]}")


def _require_no_staging(tree: pathlib.Path) -> None:
    if (tree / STAGING).exists():
        raise FaultError(f"staging is left: {sorted((tree / STAGING).rglob('*'))[:3]}")


def _complete(tree: pathlib.Path, inputs: pathlib.Path, number: int) -> float:
    """Lets a run complete, and checks that it did.

    Returns:
        How many seconds it took.

    Raises:
        FaultError: it did not, or staging is left.
    """
    run = _Run(tree, inputs, 10 * number + 5, 1)
    status = run.process.wait()
    if status:
        raise FaultError(f"the run after {number} others ended with {status}: {run.lines()[-3:]}")
    _require_no_staging(tree)
    _check(tree, run, signal.SIGINT.name, status)
    return time.monotonic() - run.started


def _row(fault: str, faults: Faults) -> tuple[str, ...]:
    statuses = ", ".join(f"{n} times {status}" for status, n in sorted(faults.statuses.items()))
    early = faults.statuses.total() - faults.statuses[0]
    return (
        fault,
        str(faults.statuses.total()),
        str(early),
        statuses or "-",
        f"{max(faults.seconds, default=0.0):.1f} at most",
    )


if __name__ == "__main__":
    sys.exit(main())
