"""The cluster that the tests share, and what a job without one publishes and measures."""

from collections.abc import Iterator

import pytest

from tests.support.cluster.dask import DaskCluster, running_dask
from tests.support.cluster.flink import FlinkCluster, running_flink
from tests.support.cluster.flink_jars import FlinkJars, fetch_jars
from tests.support.cluster.hosts import Cluster, running_cluster
from tests.support.cluster.inputs import publish_flags, put_inputs
from tests.support.programs import require_program
from tests.support.publishers import Tree, local_tree
from tests.support.wheel import build_wheel


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require_program("unshare")
    wheel = build_wheel(tmp_path_factory.mktemp("source"))
    with running_cluster(tmp_path_factory.mktemp("cluster"), wheel) as cluster:
        put_inputs(cluster.tree("in"))
        yield cluster


@pytest.fixture
def dask(cluster: Cluster) -> Iterator[DaskCluster]:
    """Workers that no other test has killed."""
    with running_dask(cluster) as dask:
        yield dask


@pytest.fixture(scope="session")
def flink_jars(tmp_path_factory: pytest.TempPathFactory) -> FlinkJars:
    for program in ("java", "mvn"):
        require_program(program)
    return fetch_jars(tmp_path_factory.mktemp("jars"))


@pytest.fixture(scope="module")
def flink(cluster: Cluster, flink_jars: FlinkJars) -> Iterator[FlinkCluster]:
    """TaskManagers in place of which others are started where a test kills some."""
    with running_flink(cluster, flink_jars) as flink:
        yield flink


@pytest.fixture
def tree(cluster: Cluster, request: pytest.FixtureRequest) -> Tree:
    """A place of the test's own in the object store."""
    return cluster.tree(request.node.name.replace("[", "-").rstrip("]"))


@pytest.fixture(scope="session")
def local(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree that the job publishes to a disk, with the same inputs, in one process."""
    tree = local_tree(tmp_path_factory.mktemp("local") / "tree")
    job = cluster.start_job("publish", *publish_flags(cluster, tree.root))
    assert job.wait() == 0, job.output
    return tree
