"""Dask's scheduler and its workers, each worker on a host of its own."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from .hosts import HOSTS, Cluster
from .inputs import dask_flags, documented
from .programs import Program

_LOOK_SECONDS = 0.1


class DaskCluster:
    """A scheduler with its workers.

    Args:
        address: the scheduler's.
        workers: by name.
    """

    def __init__(self, address: str, workers: dict[str, Program]) -> None:
        from distributed import Client

        self.address = address
        self._workers = workers
        self._client = Client(address)

    @property
    def flags(self) -> tuple[str, ...]:
        """Those with which a job runs here."""
        return tuple(dask_flags(self.address))

    def worker_in(self, function: str, job: Program, seconds: float = 600) -> Program:
        """A worker that a function is running on, once there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for address, stacks in self._call_stacks().items():
                if any(
                    f"in {function}\n" in str(frame) or f", in {function}" in str(frame)
                    for stack in stacks.values()
                    for frame in stack
                ):
                    info = self._client.scheduler_info(n_workers=-1)["workers"]
                    return self._workers[info[address]["name"]]
            if job.ended:
                break
            time.sleep(_LOOK_SECONDS)
        raise AssertionError(f"{function} was not seen:\n{job.output}")

    def close(self) -> None:
        self._client.close()

    def _call_stacks(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._client.call_stack()
        return found


@contextlib.contextmanager
def running_dask(
    cluster: Cluster, workers: int = HOSTS, code: pathlib.Path | None = None
) -> Iterator[DaskCluster]:
    """Dask's scheduler, with workers that are not started again when they are lost.

    Args:
        cluster: where.
        workers: how many.
        code: what is installed on them; None for the wheel.
    """
    program = str(pathlib.Path(sys.executable).with_name("dask"))
    with cluster.part():
        scheduler = cluster.start(
            "dask-scheduler",
            *(program, *documented("dask scheduler", {})[1:]),
            *("--host=127.0.0.1", "--port=0", "--no-dashboard"),
        )
        address = scheduler.wait_for(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)")[1]
        started = {
            f"host-{number}": cluster.start_on_host(
                number,
                *(program, *documented("dask worker", {"tcp://scheduler:8786": address})[1:]),
                *("--host=127.0.0.1", f"--name=host-{number}", "--no-nanny", "--no-dashboard"),
                code=code or cluster.code,
            )
            for number in range(workers)
        }
        for worker in started.values():
            worker.wait_for("Registered to:")
        dask = DaskCluster(address, started)
        try:
            yield dask
        finally:
            dask.close()
