"""The publish job on Dask's workers, which share nothing but the object store."""

import pathlib
import re
import shutil

import pytest

from tests.support.cluster.dask import DaskCluster, running_dask
from tests.support.cluster.hosts import Cluster
from tests.support.cluster.inputs import publish_flags
from tests.support.cluster.small_variants import SMALL_VARIANTS
from tests.support.cluster.trees import check_tree
from tests.support.publishers import Tree


@pytest.mark.parametrize("function", ["convert_variant", "validate_variant"])
def test_a_lost_worker_costs_its_own_work_alone(
    cluster: Cluster, dask: DaskCluster, tree: Tree, local: Tree, function: str
) -> None:
    job = cluster.start_job("publish", *publish_flags(cluster, tree.root), *dask.flags)
    dask.worker_in(function, job).kill()
    before = cluster.writes_below(tree, r"record\.json$")
    assert job.wait() == 0, job.output
    check_tree(tree, local)
    assert "[1/8] convert " in job.output
    assert "[8/8] publish " in job.output
    # A conversion that was finished is not made again, nor a shard's results.
    records = cluster.writes_below(tree, r"record\.json$")
    assert len(set(records)) == len(records) == len(SMALL_VARIANTS)
    assert not function.startswith("validate") or before == records
    results = cluster.writes_below(tree, "/results/")
    assert len(set(results)) == len(results) == 2 * len(SMALL_VARIANTS)


def test_a_scheduler_that_is_not_there_is_a_wrong_input(cluster: Cluster, tree: Tree) -> None:
    flags = ("--runner=DaskRunner", "--dask_client_address=tcp://127.0.0.1:1")
    job = cluster.start_job("publish", *publish_flags(cluster, tree.root), *flags)
    assert job.wait() == 2
    (line,) = job.output.splitlines()
    assert line.startswith("error: --dask_client_address tcp://127.0.0.1:1: cannot be reached (")
    assert cluster.writes_below(tree, "") == []


def test_a_worker_without_the_code_is_a_wrong_input(
    cluster: Cluster, tree: Tree, tmp_path: pathlib.Path
) -> None:
    line = refused(cluster, tree, tmp_path)
    assert re.match(
        r"error: --dask_client_address \S+: its workers do not have this code "
        r"\(ModuleNotFoundError\W.*'pipelines'.*\); expected the wheel of `make wheel` "
        r"installed on each$",
        line,
    )


def test_a_worker_with_other_code_is_a_wrong_input(
    cluster: Cluster, tree: Tree, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(cluster.code, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "pipelines" / "elements.py").open("a") as file:
        file.write("# changed\n")
    line = refused(cluster, tree, tmp_path)
    assert re.match(
        r"error: --dask_client_address \S+: pipelines/elements\.py on the worker tcp://\S+ is not "
        "that of the code that submits the job; expected the wheel of `make wheel` installed on ",
        line,
    )


def refused(cluster: Cluster, tree: Tree, code: pathlib.Path) -> str:
    """What a job says that does not begin, for what is installed on its worker."""
    with running_dask(cluster, workers=1, code=code) as dask:
        job = cluster.start_job("publish", *publish_flags(cluster, tree.root), *dask.flags)
        assert job.wait() == 2, job.output
    assert cluster.writes_below(tree, "") == []
    (line,) = job.output.splitlines()
    return line


def test_a_scheduler_without_workers_is_a_wrong_input(cluster: Cluster, tree: Tree) -> None:
    with running_dask(cluster, workers=0) as dask:
        job = cluster.start_job("publish", *publish_flags(cluster, tree.root), *dask.flags)
        assert job.wait() == 2, job.output
    (line,) = job.output.splitlines()
    assert line.endswith(
        f"{dask.address}: no workers are there; start them, then run the job again"
    )
    assert cluster.writes_below(tree, "") == []
