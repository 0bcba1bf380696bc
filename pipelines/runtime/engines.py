"""Beam's engines: what a job needs of one, checked before it begins, and running it to its end."""

import importlib
import os
import pathlib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from export.errors import UserError, one_line

from .command_line import JobError
from .files import is_url

DEFAULT_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Runs in this process and its children. Beam's default would look for another runner first."""

DASK = "DaskRunner"
# What runs on this machine, by this installation.
_LOCAL = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "PrismRunner", "RenderRunner")
_PACKAGES = ("export", "pipelines", "serving", "serving_configs", "signatures")
_WHEEL = "run `make wheel`, and pass --extra_package build/wheels/cait_serving-*.whl"
_CONNECT_SECONDS = 10.0


def register_flags(argv: Sequence[str]) -> None:
    """Makes known the flags of a runner that Beam does not import by itself.

    Raises:
        UserError: the runner's packages are not installed.
    """
    if any(DASK.lower() in argument.lower() for argument in argv):
        try:
            importlib.import_module("apache_beam.runners.dask.dask_runner")
        except ImportError as error:
            raise UserError(
                f"--runner {DASK}: {error}; run pip install 'cait-serving[dask]'"
            ) from None


def runner_name(options: PipelineOptions) -> str:
    """The name of a job's runner, such as `FlinkRunner`.

    Raises:
        UserError: Beam has no such runner.
    """
    value: str = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
    if "." in value:
        return value.rsplit(".", 1)[-1]
    known: dict[str, str] = {n.lower(): n for n in StandardOptions.KNOWN_RUNNER_NAMES}
    for name in (value.lower(), f"{value.lower()}runner"):
        if name in known:
            return known[name]
    raise UserError(
        f"--runner {value}: no such runner; expected {', '.join(sorted(known.values()))}, or the "
        "whole name of a class"
    )


def prepare_engine(
    options: PipelineOptions, places: Sequence[tuple[str, str]], shared_disk: bool
) -> None:
    """Checks that the workers of a job can have the code and see its inputs and outputs.

    Args:
        options: Beam's; a runner is put in where there is none.
        places: flags, and the path or URL of each that workers read or write.
        shared_disk: whether every worker sees this machine's paths.

    Raises:
        UserError: they can't, or the engine cannot be reached.
    """
    name = runner_name(options)
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or DEFAULT_RUNNER
    environment = options.view_as(PortableOptions).environment_type
    if name in _LOCAL or environment == "LOOPBACK":
        return
    for flag, place in places:
        if not is_url(place) and not shared_disk:
            raise UserError(
                f"{flag} {place}: the workers of {name} do not see this machine's disk; expected a "
                "URL, or --shared_disk where all of them have it at the same path"
            )
    if name == "FlinkRunner":
        _check_flink(options)
    # Dask's workers take no packages: the code is installed beside them.
    if name != DASK:
        _check_code(options, name)


def run_job(build: Callable[[beam.Pipeline], object], options: PipelineOptions) -> None:
    """Builds a pipeline and runs it to its end.

    Raises:
        UserError: an engine elsewhere does not take the job.
        JobError: the job failed there.
    """
    name = runner_name(options)
    if name in _LOCAL:
        with beam.Pipeline(options=options) as pipeline:
            build(pipeline)
        return
    try:
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
    except Exception as error:  # Every engine has errors of its own.
        raise UserError(
            f"--runner {name}: the job cannot be submitted ({one_line(error)}); expected an engine "
            "that runs and can be reached"
        ) from error
    try:
        result.wait_until_finish()
    except Exception as error:
        raise JobError(f"--runner {name}: the job failed ({one_line(error)})") from error


def _check_flink(options: PipelineOptions) -> None:
    flink = options.view_as(FlinkRunnerOptions)
    jar = flink.flink_job_server_jar
    if jar and not is_url(jar) and not os.path.isfile(jar):
        raise UserError(
            f"--flink_job_server_jar {jar}: no such file; expected the jar of Beam's job server "
            "for --flink_version"
        )
    master = flink.flink_master
    if master.startswith("["):
        return  # A cluster that Beam starts by itself.
    address = master if is_url(master) else f"http://{master}"
    try:
        with urllib.request.urlopen(f"{address}/v1/overview", timeout=_CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserError(
            f"--flink_master {master}: cannot be reached ({reason}); expected the address of the "
            "JobManager's REST API, such as http://flink:8081"
        ) from None


def _check_code(options: PipelineOptions, name: str) -> None:
    """Looks for the code in a wheel that is sent to the workers, or for an image that has it."""
    portable = options.view_as(PortableOptions)
    image = options.view_as(WorkerOptions).sdk_container_image
    if image or (portable.environment_type == "DOCKER" and portable.environment_config):
        return
    wheels = [
        path
        for path in options.view_as(SetupOptions).extra_packages or ()
        if pathlib.PurePath(path).name.startswith("cait_serving-")
    ]
    if not wheels:
        raise UserError(
            f"--runner {name}: its workers do not have this code; {_WHEEL}, or name an image that "
            "has it with --sdk_container_image"
        )
    for path in wheels:
        _check_wheel(path)


def _check_wheel(path: str) -> None:
    root = pathlib.Path(__file__).parents[2]
    try:
        with zipfile.ZipFile(path) as wheel:
            found = {name: wheel.read(name) for name in wheel.namelist() if _is_code(name)}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"--extra_package {path}: cannot be read ({error}); {_WHEEL}") from None
    ours = {
        name: module.read_bytes()
        for package in _PACKAGES
        for module in (root / package).rglob("*.py")
        if _is_code(name := module.relative_to(root).as_posix())
    }
    for name in sorted(ours.keys() | found.keys()):
        if ours.get(name) != found.get(name):
            raise UserError(
                f"--extra_package {path}: {name} is not that of the code that submits the job; "
                f"expected a wheel of the same code: {_WHEEL}"
            )


def _is_code(name: str) -> bool:
    return name.endswith(".py") and name.split("/")[0] in _PACKAGES
