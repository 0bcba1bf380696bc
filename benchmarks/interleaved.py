"""Competitors in processes of their own, run in turn: what disturbs one disturbs all."""

import contextlib
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

# A turn lasts about this long, or one run.
_TURN_SECONDS = 0.5
_MOST_RUNS = 5
# Threads of a library that wait by spinning are to be asleep when the next one runs.
_PAUSE_SECONDS = 0.1
# The first runs optimise the graph; with XLA the first few of them compile.
_WARM_UP = 4
# Of several clients at a time; each call of the slowest model takes seconds.
_LOAD_SECONDS = 3.0

Rounds = dict[str, list[float]]
"""Column -> seconds, the median of each round."""


class CompetitorError(Exception):
    """A competitor's process ended."""


@dataclasses.dataclass(frozen=True)
class Command:
    """How a competitor is started.

    Attributes:
        argv: the command; it answers as `benchmarks.competitors` says.
        columns: names of its calls -> what they are called in the results.
        environment: what is added to the environment.
    """

    argv: tuple[str, ...]
    columns: Mapping[str, str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Competitor:
    """A competitor's process.

    Args:
        command: how it is started.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **command.environment},
        )
        self._runs = 1
        self._settle = 0
        self._clients = 0

    def prepare(self, batch: int) -> None:
        """Makes it ready for batches of a size, and finds out how many runs fill its turn.

        Raises:
            CompetitorError: it ended; the message is the last that it said.
        """
        seconds = self._ask({"prepare": batch, "run": 1, "settle": _WARM_UP})
        taken = sum(values[0] for values in seconds.values())
        self._runs = max(1, min(_MOST_RUNS, round(_TURN_SECONDS * len(seconds) / taken)))
        # Others have filled the caches since the last turn; to a long run that is nothing.
        self._settle = 1 if self._runs > 1 else 0

    def prepare_load(self, clients: int) -> None:
        """Makes it ready for so many clients at a time, with an image each.

        Raises:
            CompetitorError: it ended; the message is the last that it said.
        """
        self._ask({"prepare": 1, "run": 1, "settle": _WARM_UP})
        self._clients = clients
        self.turn()

    def turn(self) -> dict[str, float]:
        """Runs its calls: column -> median seconds, or those that pass for an image under load.

        Raises:
            CompetitorError: it ended; the message is the last that it said.
        """
        request: dict[str, float] = {"run": self._runs, "settle": self._settle}
        if self._clients:
            request = {"clients": self._clients, "seconds": _LOAD_SECONDS}
        seconds = self._ask(request)
        return {self.command.columns[name]: statistics.median(s) for name, s in seconds.items()}

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _ask(self, request: Mapping[str, float]) -> dict[str, list[float]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            said = self._log.read().strip().splitlines() or ["it said nothing"]
            raise CompetitorError(f"ended with {status}: {said[-1]}")
        answer: dict[str, list[float]] = json.loads(line)
        return answer


def measure(
    commands: Sequence[Command], sizes: Sequence[int], rounds: int, clients: bool = False
) -> dict[int, Rounds]:
    """Runs all competitors round by round; one that fails is left out, and said so.

    Args:
        commands: how they are started.
        sizes: of batches, one after the other.
        rounds: of each size.
        clients: the sizes are numbers of clients at a time, with one image each. What is measured
            are the seconds that pass for an image.

    Returns:
        Size -> what was measured.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for command in commands:
            running.append(Competitor(command))
            stack.callback(running[-1].close)
        return {size: _measure(running, size, rounds, clients) for size in sizes}


def _measure(running: list[Competitor], size: int, rounds: int, clients: bool) -> Rounds:
    found: Rounds = {}
    for competitor in list(running):
        prepare = competitor.prepare_load if clients else competitor.prepare
        _or_drop(running, competitor, functools.partial(prepare, size))
    for _ in range(rounds):
        for competitor in list(running):
            time.sleep(_PAUSE_SECONDS)
            for column, seconds in _or_drop(running, competitor, competitor.turn).items():
                found.setdefault(column, []).append(seconds)
    # A competitor that ended half way has not been compared with the others.
    return {column: seconds for column, seconds in found.items() if len(seconds) == rounds}


def _or_drop(running: list[Competitor], competitor: Competitor, act: Any) -> dict[str, float]:
    try:
        return act() or {}
    except CompetitorError as error:
        columns = ", ".join(competitor.command.columns.values())
        print(f"left out: {columns}: {error}", file=sys.stderr, flush=True)
        running.remove(competitor)
        return {}
