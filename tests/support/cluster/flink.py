"""Flink: a JobManager, and TaskManagers with one slot each, every one on a host of its own.

A TaskManager starts the SDK harness for its slot by itself, on its host.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping

from .flink_jars import FlinkJars
from .hosts import CREDENTIALS, HOSTS, Cluster
from .inputs import flink_flags
from .programs import Program

_BOOT = pathlib.Path(__file__).with_name("boot.py")
_LOOK_SECONDS = 0.5

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
    # Ten of them are longer than the timeout: until then Flink gives work to what is lost.
    "restart-strategy.fixed-delay.delay": "3 s",
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
        credentials: the environment of the TaskManagers, for the object store.
        restarts: of a job.
    """

    def __init__(
        self,
        cluster: Cluster,
        jars: FlinkJars,
        credentials: Mapping[str, str] = CREDENTIALS,
        restarts: int = 10,
    ) -> None:
        self._credentials = credentials
        self._cluster = cluster
        self._jars = jars
        self._started: list[Program] = []
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        attempts = {"restart-strategy.fixed-delay.attempts": str(restarts)}
        settings = {**_JOB_MANAGER, **attempts}
        command = self._java("job-manager", "-Xmx640m", main, settings, cluster.folder)
        job_manager = cluster.start("flink-job-manager", *command)
        self.master = job_manager.wait_for(r"Rest endpoint listening at (127\.0\.0\.1:\d+)")[1]
        self._rpc_port = job_manager.wait_for(
            r"Actor system started at pekko\.tcp://flink@127\.0\.0\.1:(\d+)"
        )[1]

    @property
    def flags(self) -> tuple[str, ...]:
        """Those with which a job runs here."""
        return tuple(
            flink_flags(
                {
                    "http://jobmanager:8081": f"http://{self.master}",
                    "flink-job-server.jar": str(self._jars.job_server),
                    "/opt/apache/beam/boot": str(_BOOT),
                    "build/wheels/cait_serving-0.1.0-py3-none-any.whl": str(self._cluster.wheel),
                }
            )
        )

    @property
    def task_managers(self) -> list[Program]:
        """Those that were started and have not ended."""
        return [manager for manager in self._started if not manager.ended]

    def start_task_manager(self) -> Program:
        """Starts one on a new host, and waits until the JobManager knows it."""
        number = len(self._started)
        name = f"task-manager-{number}"
        home = self._cluster.folder / "host"
        settings = {
            **_TASK_MANAGER,
            "jobmanager.rpc.port": self._rpc_port,
            "taskmanager.resource-id": name,
        }
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        command = self._java(name, "-Xmx512m", main, settings, home)
        program = self._cluster.start_on_host(number, *command, credentials=self._credentials)
        self._started.append(program)
        program.wait_for("Successful registration at resource manager")
        return program

    def busiest(self) -> Program:
        """The TaskManager whose SDK harness computes most at the moment."""
        before = {manager.pid: _ticks(manager) for manager in self.task_managers}
        time.sleep(_LOOK_SECONDS)
        return max(self.task_managers, key=lambda manager: _ticks(manager) - before[manager.pid])

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


def _ticks(manager: Program) -> int:
    """Processor time of its harness so far; 0 where it has none."""
    child = manager.child()
    try:
        fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return int(fields[11]) + int(fields[12])


@contextlib.contextmanager
def running_flink(
    cluster: Cluster,
    jars: FlinkJars,
    credentials: Mapping[str, str] = CREDENTIALS,
    restarts: int = 10,
) -> Iterator[FlinkCluster]:
    """A Flink cluster; its TaskManagers are not started again when they are lost."""
    with cluster.part():
        flink = FlinkCluster(cluster, jars, credentials, restarts)
        for _ in range(HOSTS):
            flink.start_task_manager()
        yield flink
