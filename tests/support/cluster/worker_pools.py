"""Beam's worker pools, each on a host of its own."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

from .hosts import HOSTS, Cluster
from .programs import Program

_BOOT = pathlib.Path(__file__).with_name("boot.py")
# Its port is said at a level that it does not show by itself.
_POOL = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from apache_beam.runners.worker.worker_pool_main import main
main(sys.argv)
"""


class WorkerPools:
    """Pools that start an SDK harness for each worker of a job.

    Args:
        addresses: of the pools.
        pools: in the same order.
        wheel: our code.
    """

    def __init__(self, addresses: list[str], pools: list[Program], wheel: pathlib.Path) -> None:
        self.pools = pools
        self.flags = (
            "--runner=tests.support.cluster.pools_runner.PoolsRunner",
            f"--environment_config={','.join(addresses)}",
            f"--direct_num_workers={len(pools)}",
            f"--extra_package={wheel}",
        )


@contextlib.contextmanager
def running_pools(cluster: Cluster, pools: int = HOSTS) -> Iterator[WorkerPools]:
    """Worker pools without our code: each job sends its own."""
    with cluster.part():
        started = [
            cluster.start_on_host(
                number,
                *(sys.executable, "-c", _POOL, "--service_port=0"),
                f"--container_executable={_BOOT}",
            )
            for number in range(pools)
        ]
        addresses = [pool.wait_for(r"at port: (localhost:\d+)")[1] for pool in started]
        yield WorkerPools(addresses, started, cluster.wheel)
