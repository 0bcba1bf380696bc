"""The evaluation on SDK harnesses in worker pools, which the job sends its wheel to."""

import json
import os
import pathlib
import signal
import time

import pytest

from pipelines.store.base import read
from tests.support.cluster.hosts import Cluster
from tests.support.cluster.inputs import SHARDS, evaluate_flags
from tests.support.cluster.programs import Program
from tests.support.cluster.small_variants import SMALL_VARIANTS
from tests.support.cluster.worker_pools import WorkerPools
from tests.support.publishers import Tree, local_tree

TASKS = SHARDS * len(SMALL_VARIANTS)
# What depends on the speed of the machine.
OF_THE_RUN = ("seconds", "images_per_second")


@pytest.fixture(scope="session")
def published(cluster: Cluster, local: Tree) -> Tree:
    """What is evaluated, in the object store."""
    tree = cluster.tree("published")
    store = tree.open()
    root = pathlib.Path(local.root)
    for path in sorted(root.glob("serving/*/1/**/*")):
        if path.is_file():
            store.write(path.relative_to(root).as_posix(), path.read_bytes())
    return tree


@pytest.fixture(scope="session")
def expected(
    cluster: Cluster, published: Tree, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, object]]:
    """The figures that one process finds."""
    output = local_tree(tmp_path_factory.mktemp("figures"))
    job = cluster.start_job("evaluate", *evaluate_flags(cluster, published.root, output.root))
    assert job.wait() == 0, job.output
    return figures(output)


def figures(output: Tree) -> list[dict[str, object]]:
    """Of each model, but for what depends on the machine."""
    models = json.loads(read(output.open(), "evaluation.json"))["models"]
    return [
        {name: value for name, value in model.items() if name not in OF_THE_RUN} for model in models
    ]


def start(cluster: Cluster, published: Tree, output: Tree, pools: WorkerPools) -> Program:
    flags = evaluate_flags(cluster, published.root, output.root)
    return cluster.start_job("evaluate", *flags, *pools.flags)


def test_workers_find_what_one_process_finds(
    cluster: Cluster,
    pools: WorkerPools,
    published: Tree,
    tree: Tree,
    expected: list[dict[str, object]],
) -> None:
    job = start(cluster, published, tree, pools)
    assert job.wait() == 0, job.output
    assert figures(tree) == expected


def test_a_job_that_loses_a_harness_goes_on_when_it_is_run_again(
    cluster: Cluster,
    pools: WorkerPools,
    published: Tree,
    tree: Tree,
    expected: list[dict[str, object]],
) -> None:
    job = start(cluster, published, tree, pools)
    while not cluster.writes_below(tree, "/shards/"):
        assert not job.ended, job.output
        time.sleep(0.05)
    harness = pools.pools[0].child()
    assert harness
    os.kill(harness, signal.SIGKILL)
    # Beam's in-process runner may wait for the harness for ever: its user ends the job.
    job.kill()
    # The others end with it, when they have done the shard that they are at.
    while any(pool.child() for pool in pools.pools):
        time.sleep(0.05)
    before = cluster.writes_below(tree, "/shards/")
    assert 0 < len(before) < TASKS
    again = start(cluster, published, tree, pools)
    assert again.wait() == 0, again.output
    assert figures(tree) == expected
    # Shards that were done are not done again.
    after = cluster.writes_below(tree, "/shards/")
    assert sorted(after) == sorted(set(after))
    assert len(after) == TASKS
