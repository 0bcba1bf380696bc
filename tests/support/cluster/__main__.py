"""The cluster of the tests, shown: two variants published on it, and evaluated. `make cluster`."""

import pathlib
import sys
import tempfile

from tests.support.cluster.flink import FlinkCluster, running_flink
from tests.support.cluster.flink_jars import fetch_jars
from tests.support.cluster.hosts import Cluster, running_cluster
from tests.support.cluster.inputs import evaluate_flags, put_inputs
from tests.support.cluster.programs import Program
from tests.support.wheel import build_wheel

VARIANTS = "cait_xxs24_224,cait_xxs36_224"


def main() -> int:
    """Runs both jobs, and returns the exit status of the first that failed."""
    with tempfile.TemporaryDirectory(prefix="cait-cluster-") as name:
        folder = pathlib.Path(name)
        for part in ("source", "jars", "cluster"):
            (folder / part).mkdir()
        say("building the wheel")
        wheel = build_wheel(folder / "source")
        say("downloading Flink and Beam's job server for it")
        jars = fetch_jars(folder / "jars")
        say("starting the object store")
        with running_cluster(folder / "cluster", wheel) as cluster:
            put_inputs(cluster.tree("in"))
            say("starting Flink's JobManager and three TaskManagers")
            with running_flink(cluster, jars) as flink:
                say(f"Flink's own page: http://{flink.master}")
                return publish(cluster, flink) or evaluate(cluster, flink)


def publish(cluster: Cluster, flink: FlinkCluster) -> int:
    root, inputs = cluster.tree("cait").root, cluster.tree("in").root
    say(f"publishing {VARIANTS} with random weights")
    job = cluster.start_job(
        "publish",
        *(f"--variants={VARIANTS}", "--checkpoints=random", f"--publish_to={root}"),
        *(f"--sample_shard={inputs}/sample/*", *cluster.options, *flink.flags),
    )
    return follow(job)


def evaluate(cluster: Cluster, flink: FlinkCluster) -> int:
    root = cluster.tree("cait").root
    say("evaluating them on photographs with made-up labels")
    flags = evaluate_flags(cluster, root, f"{root}/evaluation")
    return follow(cluster.start_job("evaluate", *flags, *flink.flags))


def follow(job: Program) -> int:
    """Shows what a job says, and returns its exit status."""
    for text in job.lines():
        print(text, flush=True)
    return job.wait()


def say(text: str) -> None:
    print(f"cluster: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("ended")
        sys.exit(130)
