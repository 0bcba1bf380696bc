"""What a job needs of an engine is checked before anything is written."""

import http.server
import pathlib
import re
import threading
import zipfile
from collections.abc import Callable, Iterator

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError
from pipelines.evaluate.command import main as evaluate
from pipelines.publish.command import main as publish
from pipelines.runtime.command_line import JobError
from pipelines.runtime.engines import prepare_engine, run_job, runner_name
from tests.support.paths import REPOSITORY

PACKAGES = ("export", "pipelines", "serving", "serving_configs", "signatures")
URLS = [("--publish_to", "s3://bucket/tree")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What a wheel has of the code."""
    path = tmp_path_factory.mktemp("wheel") / "cait_serving-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for package in PACKAGES:
            for module in (REPOSITORY / package).rglob("*.py"):
                archive.write(module, module.relative_to(REPOSITORY).as_posix())
    return path


@pytest.fixture
def refused() -> Callable[..., str]:
    def prepare(
        *flags: str, shared_disk: bool = False, places: list[tuple[str, str]] = URLS
    ) -> str:
        with pytest.raises(UserError) as caught:
            prepare_engine(PipelineOptions(list(flags)), places, shared_disk)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return prepare


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("FlinkRunner", "FlinkRunner"),
        ("flink", "FlinkRunner"),
        ("dask", "DaskRunner"),
        ("some.module.TheirRunner", "TheirRunner"),
        (None, "FnApiRunner"),
    ],
)
def test_names_of_runners(value: str | None, name: str) -> None:
    assert runner_name(PipelineOptions([f"--runner={value}"] if value else [])) == name


def test_unknown_runners_are_named(refused: Callable[..., str]) -> None:
    message = refused("--runner=Flnk")
    assert message.startswith("--runner Flnk: no such runner; expected ")
    assert "FlinkRunner" in message


def test_workers_elsewhere_need_urls_or_a_shared_disk(refused: Callable[..., str]) -> None:
    local = [("--publish_to", "/tree")]
    message = refused("--runner=SparkRunner", places=local)
    assert message.startswith("--publish_to /tree: the workers of SparkRunner do not see this")
    assert "needs" not in refused("--runner=SparkRunner", places=local, shared_disk=True)
    # On this machine there is nothing to check.
    for flags in ([], ["--runner=DirectRunner"], ["--runner=PortableRunner"]):
        environment = ["--environment_type=LOOPBACK"] if flags else []
        prepare_engine(PipelineOptions([*flags, *environment]), local, False)


def test_the_code_has_to_reach_the_workers(
    refused: Callable[..., str], wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    message = refused("--runner=SparkRunner")
    assert message.startswith("--runner SparkRunner: its workers do not have this code; run `make")
    assert refused("--runner=SparkRunner", "--extra_package=other-1.0.whl") == message
    missing = tmp_path / "cait_serving-0.1.0-py3-none-any.whl"
    flag = f"--extra_package={missing}"
    assert "cannot be read" in refused("--runner=SparkRunner", flag)
    missing.write_bytes(b"no wheel")
    assert "cannot be read" in refused("--runner=SparkRunner", flag)
    for flags in (
        [f"--extra_package={wheel}"],
        ["--sdk_container_image=registry/cait:1"],
        ["--environment_type=DOCKER", "--environment_config=registry/cait:1"],
    ):
        prepare_engine(PipelineOptions(["--runner=SparkRunner", *flags]), URLS, False)


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_a_wheel_of_other_code_is_refused(
    refused: Callable[..., str], wheel: pathlib.Path, tmp_path: pathlib.Path, change: str
) -> None:
    name = "pipelines/later.py" if change == "added" else "pipelines/elements.py"
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            if entry == name and change == "removed":
                continue
            target.writestr(entry, content + b"#" if entry == name else content)
        if change == "added":
            target.writestr(name, b"")
    message = refused("--runner=SparkRunner", f"--extra_package={other}")
    assert message.startswith(f"--extra_package {other}: {name} is not that of the code that sub")


@pytest.fixture
def job_manager() -> Iterator[str]:
    """A REST API that answers; nothing is submitted to it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_flink_cluster_has_to_be_there(
    refused: Callable[..., str], wheel: pathlib.Path, job_manager: str
) -> None:
    flink = ("--runner=FlinkRunner", f"--extra_package={wheel}")
    message = refused(*flink, "--flink_master=127.0.0.1:1")
    assert re.match(r"--flink_master 127.0.0.1:1: cannot be reached \(.*refused\); exp", message)
    master = f"--flink_master={job_manager}"
    message = refused(*flink, master, "--flink_job_server_jar=none.jar")
    assert message.startswith("--flink_job_server_jar none.jar: no such file")
    prepare_engine(PipelineOptions([*flink, master]), URLS, False)
    assert "do not have this code" in refused("--runner=FlinkRunner", master)


def test_an_engine_that_does_not_take_the_job_is_a_wrong_input() -> None:
    options = PipelineOptions(["--runner=no.such.module.TheirRunner"])
    with pytest.raises(UserError, match="--runner TheirRunner: the job cannot be submitted") as e:
        run_job(lambda pipeline: None, options)
    assert "\n" not in str(e.value)


# What Flink 1.19 said, shortened.
LOST = """Pipeline job-1e2e8e6b failed in state FAILED: java.lang.Exception: The user defined
\tat org.apache.flink.runtime.operators.BatchTask.run(BatchTask.java:510)
Caused by: org.apache.beam.vendor.guava.v32_1_2_jre.UncheckedExecutionException: Process died
\tat org.apache.beam.runners.fnexecution.control.DefaultJobBundleFactory.forStage(Job.java:310)
Caused by: java.lang.IllegalStateException: Process died with exit code 2
\tat org.apache.beam.runners.fnexecution.environment.ProcessManager.isAlive(Process.java:75)
\t... 19 more
"""
OF_A_STEP = """Pipeline failed in state FAILED: java.util.concurrent.ExecutionException: Error
AttributeError: partially initialized module 'tensorflow' [while running 'Convert/ConvertVariant']

Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 2: Traceback
AttributeError: partially initialized module 'tensorflow' [while running 'Convert/ConvertVariant']
\t... 1 more
"""
NOT_TAKEN = (
    'status 400: {"errors":["RestHandlerException: Could not execute application.\\n\\tat '
    "org.apache.flink.JarRunHandler(JarRunHandler.java:114)\\n"
    'Caused by: java.lang.RuntimeException: Unable to parse\\n\\t... 1"'
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("worker lost\nfor good", "RuntimeError: worker lost for good"),
        (LOST, "java.lang.IllegalStateException: Process died with exit code 2"),
        (
            OF_A_STEP,
            "AttributeError: partially initialized module 'tensorflow' [while running "
            "'Convert/ConvertVariant']",
        ),
        (NOT_TAKEN, "java.lang.RuntimeException: Unable to parse"),
    ],
)
def test_a_job_that_fails_elsewhere_is_one_line(
    said: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Result:
        def wait_until_finish(self) -> None:
            raise RuntimeError(said)

    class Pipeline:
        def __init__(self, options: PipelineOptions) -> None:
            pass

        def run(self) -> Result:
            return Result()

    monkeypatch.setattr("apache_beam.Pipeline", Pipeline)
    with pytest.raises(JobError) as failed:
        run_job(lambda pipeline: None, PipelineOptions(["--runner=FlinkRunner"]))
    assert str(failed.value) == f"--runner FlinkRunner: the job failed ({reason})"


def test_the_jobs_say_so_and_write_nothing(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "tree"
    flags = ("--checkpoints", "random", "--sample_shard", "x", "--publish_to", str(tree))
    assert publish([*flags, "--runner", "FlinkRunner"]) == 2
    assert evaluate(["--models", str(tree), "--data", "x", "--runner", "FlinkRunner"]) == 2
    assert not tree.exists()
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "error"]
    assert all("do not see this machine's disk" in line for line in lines)
