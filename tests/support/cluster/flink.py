"""Flink: a JobManager, and TaskManagers with one slot each, every one on a host of its own.

A TaskManager starts the SDK harness for its slot by itself, on its host.
"""

import contextlib
import json
import pathlib
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from .flink_jars import FlinkJars
from .hosts import HOSTS, Cluster
from .programs import Program

_BOOT = pathlib.Path(__file__).with_name("boot.py")
_LOOK_SECONDS = 0.2

# Flink's start scripts say this of Java's modules, but PyPI does not have them.
_OPENED = (
    *("lang", "lang.reflect", "net", "io", "nio", "text", "time"),
    *("util", "util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
)
_MODULES = (
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED),
)
_LOGGING = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = Console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %-5p %c{1} - %m%n
"""
# A lost TaskManager is noticed within seconds, and what ran there is run again.
_JOB_MANAGER = {
    "jobmanager.rpc.address": "127.0.0.1",
    "jobmanager.rpc.port": "0",
    "jobmanager.bind-host": "127.0.0.1",
    "rest.address": "127.0.0.1",
    "rest.bind-address": "127.0.0.1",
    "rest.bind-port": "0",
    "jobmanager.memory.process.size": "1g",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "3",
    "restart-strategy.fixed-delay.delay": "1 s",
    "heartbeat.interval": "2000",
    "heartbeat.timeout": "10000",
}
_TASK_MANAGER = {
    "jobmanager.rpc.address": "127.0.0.1",
    "taskmanager.host": "127.0.0.1",
    "taskmanager.bind-host": "127.0.0.1",
    "taskmanager.numberOfTaskSlots": "1",
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
    "heartbeat.interval": "2000",
    "heartbeat.timeout": "10000",
}


class FlinkCluster:
    """A JobManager with its TaskManagers.

    Args:
        cluster: where.
        jars: what they run.
    """

    def __init__(self, cluster: Cluster, jars: FlinkJars) -> None:
        self._cluster = cluster
        self._jars = jars
        self._task_managers: dict[str, Program] = {}
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        command = self._java("job-manager", "-Xmx640m", main, _JOB_MANAGER, cluster.folder)
        job_manager = cluster.start("flink-job-manager", *command)
        self.master = job_manager.wait_for(r"Rest endpoint listening at (127\.0\.0\.1:\d+)")[1]
        self._rpc_port = job_manager.wait_for(
            r"Actor system started at pekko\.tcp://flink@127\.0\.0\.1:(\d+)"
        )[1]

    @property
    def task_managers(self) -> dict[str, Program]:
        """Those that were started, by name."""
        return dict(self._task_managers)

    @property
    def flags(self) -> tuple[str, ...]:
        """Those with which a job runs here."""
        return (
            "--runner=FlinkRunner",
            f"--flink_master=http://{self.master}",
            "--flink_version=1.19",
            f"--flink_job_server_jar={self._jars.job_server}",
            "--flink_submit_uber_jar",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': str(_BOOT)})}",
            f"--parallelism={HOSTS}",
            "--sdk_worker_parallelism=1",
            f"--extra_package={self._cluster.wheel}",
        )

    def start_task_manager(self) -> Program:
        """Starts one on a new host, and waits until the JobManager knows it."""
        number = len(self._task_managers)
        name = f"task-manager-{number}"
        home = self._cluster.folder / "host"
        settings = {
            **_TASK_MANAGER,
            "jobmanager.rpc.port": self._rpc_port,
            "taskmanager.resource-id": name,
        }
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        command = self._java(name, "-Xmx512m", main, settings, home)
        program = self._cluster.start_on_host(number, *command)
        self._task_managers[name] = program
        program.wait_for("Successful registration at resource manager")
        return program

    def busy_task_managers(self) -> list[str]:
        """Names of those that run something, by what the JobManager says of their slots."""
        found = self._get("taskmanagers")["taskmanagers"]
        return [manager["id"] for manager in found if manager["freeSlots"] == 0]

    def job_state(self) -> str:
        """Of the newest job."""
        jobs = self._get("jobs/overview")["jobs"]
        return str(max(jobs, key=lambda job: job["start-time"])["state"])

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.master}/v1/{path}", timeout=30) as reply:
            return json.load(reply)

    def _java(
        self,
        name: str,
        memory: str,
        main: str,
        settings: Mapping[str, str],
        temporary: pathlib.Path,
    ) -> list[str]:
        """The command of a program of Flink's, with its folder of settings."""
        folder = self._cluster.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        lines = {**settings, "io.tmp.dirs": str(temporary)}.items()
        (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines))
        (folder / "log4j.properties").write_text(_LOGGING)
        return [
            *("java", memory, f"-Djava.io.tmpdir={temporary}", *_MODULES),
            f"-Dlog4j.configurationFile=file:{folder / 'log4j.properties'}",
            *("-cp", ":".join(map(str, self._jars.class_path))),
            *(main, "--configDir", str(folder)),
        ]


@contextlib.contextmanager
def running_flink(
    cluster: Cluster, jars: FlinkJars, task_managers: int = HOSTS
) -> Iterator[FlinkCluster]:
    """A Flink cluster; its TaskManagers are not started again when they are lost."""
    with cluster.part():
        flink = FlinkCluster(cluster, jars)
        for _ in range(task_managers):
            flink.start_task_manager()
        yield flink
