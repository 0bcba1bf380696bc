"""Both jobs on Flink, whose TaskManagers share nothing but the object store."""

import json
import pathlib
import re
import time
from collections.abc import Callable

import pytest

from pipelines.store.base import read
from tests.support.cluster.flink import FlinkCluster, running_flink
from tests.support.cluster.flink_jars import FlinkJars
from tests.support.cluster.hosts import CREDENTIALS, Cluster
from tests.support.cluster.inputs import SHARDS, evaluate_flags, publish_flags
from tests.support.cluster.programs import Program
from tests.support.cluster.small_variants import SMALL_VARIANTS
from tests.support.cluster.trees import check_tree
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


def publish(cluster: Cluster, flink: FlinkCluster, tree: Tree) -> Program:
    return cluster.start_job("publish", *publish_flags(cluster, tree.root), *flink.flags)


def evaluate(cluster: Cluster, flink: FlinkCluster, published: Tree, output: Tree) -> Program:
    flags = evaluate_flags(cluster, published.root, output.root)
    return cluster.start_job("evaluate", *flags, *flink.flags)


def await_that(condition: Callable[[], object], job: Program) -> None:
    while not condition():
        assert not job.ended, job.output
        time.sleep(0.05)


def test_task_managers_publish_what_one_process_publishes(
    cluster: Cluster, flink: FlinkCluster, tree: Tree, local: Tree
) -> None:
    job = publish(cluster, flink, tree)
    assert job.wait() == 0, job.output
    check_tree(tree, local)
    assert "[1/8] convert " in job.output
    assert "[8/8] publish " in job.output
    counted = r"note: the job's counters: .*\bimages_compared 8, .*\bmodels_published 2\b"
    assert re.search(counted, job.output), job.output


@pytest.mark.parametrize("step", ["convert", "validate"])
def test_a_lost_task_manager_costs_its_own_work_alone(
    cluster: Cluster, flink: FlinkCluster, tree: Tree, local: Tree, step: str
) -> None:
    def converting() -> bool:
        return any(
            list(manager.files("cait-models-*/*/.*/models")) for manager in flink.task_managers
        )

    def validating() -> bool:
        records = cluster.writes_below(tree, r"record\.json$")
        return len(records) == len(SMALL_VARIANTS) and bool(cluster.writes_below(tree, "/results/"))

    job = publish(cluster, flink, tree)
    await_that(converting if step == "convert" else validating, job)
    before = cluster.writes_below(tree, r"record\.json$")
    flink.busiest().kill()
    # As Kubernetes would.
    flink.start_task_manager()
    assert job.wait() == 0, job.output
    check_tree(tree, local)
    # A conversion that was finished is not made again, nor a shard's results.
    records = cluster.writes_below(tree, r"record\.json$")
    assert len(set(records)) == len(records) == len(SMALL_VARIANTS)
    assert step == "convert" or before == records
    results = cluster.writes_below(tree, "/results/")
    assert len(set(results)) == len(results) == 2 * len(SMALL_VARIANTS)


def test_an_evaluation_goes_on_without_a_lost_task_manager(
    cluster: Cluster,
    flink: FlinkCluster,
    published: Tree,
    tree: Tree,
    expected: list[dict[str, object]],
) -> None:
    job = evaluate(cluster, flink, published, tree)
    await_that(lambda: len(cluster.writes_below(tree, "/shards/")) > 1, job)
    flink.busiest().kill()
    assert len(cluster.writes_below(tree, "/shards/")) < TASKS
    flink.start_task_manager()
    assert job.wait() == 0, job.output
    assert figures(tree) == expected
    # Shards that were done are not done again.
    shards = cluster.writes_below(tree, "/shards/")
    assert len(set(shards)) == len(shards) == TASKS


def test_workers_that_may_not_use_the_store_are_named_in_a_line(
    cluster: Cluster, flink_jars: FlinkJars, tree: Tree
) -> None:
    wrong = {**CREDENTIALS, "AWS_SECRET_ACCESS_KEY": "", "AWS_ACCESS_KEY_ID": ""}
    with running_flink(cluster, flink_jars, wrong, restarts=1) as flink:
        job = publish(cluster, flink, tree)
        assert job.wait() == 2, job.output
    (line,) = job.output.splitlines()
    assert line.startswith(
        f"error: --runner FlinkRunner: the job failed ({tree.root}: no credentials for it here; "
    )
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in job.output
    assert tree.open().children("") == []
