"""Beam's engines: what a job needs of one, checked before it begins, and running it to its end."""

import collections
import contextlib
import importlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence

import apache_beam as beam
from apache_beam.metrics.metric import MetricResults, MetricsFilter
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)

from export.errors import UserError, one_line
from signatures.addresses import is_url
from signatures.program import Interrupted, in_thread

from .code import differing_module, installed_modules, require_code
from .command_line import JobError, refuse_unknown
from .steps import COUNTERS

DEFAULT_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Runs in this process and its children. Beam's default would look for another runner first."""

DASK = "DaskRunner"
# What runs on this machine, by this installation.
_LOCAL = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "PrismRunner", "RenderRunner")
_CONNECT_SECONDS = 10.0
_CAUSE = "Caused by: "
_USER_ERROR = f"{UserError.__module__}.{UserError.__name__}: "


def register_flags(argv: Sequence[str]) -> None:
    """Makes known the flags of a runner that Beam does not import by itself.

    Raises:
        UserError: the runner's packages are not installed.
    """
    named = {argument.lower().removeprefix("--runner=") for argument in argv}
    if any(name == "dask" or name.endswith(DASK.lower()) for name in named):
        try:
            importlib.import_module("apache_beam.runners.dask.dask_runner")
        except ImportError as error:
            raise UserError(
                f"--runner {DASK}: {error}; run pip install 'cait-serving[dask]'"
            ) from None


def beam_options(argv: Sequence[str], own: Collection[str]) -> PipelineOptions:
    """The options of Beam's in a command line.

    Args:
        argv: what is left of it without the command's own flags.
        own: names of those, for messages.

    Raises:
        UserError: a flag is neither Beam's nor the command's, or a runner is not installed.
    """
    register_flags(argv)
    options = PipelineOptions(list(argv))
    known = {*own, "help"}
    # What other jobs' flags are called does not count, wherever their modules have been loaded.
    for cls in PipelineOptions.__subclasses__():
        if cls.__module__.startswith("apache_beam."):
            known |= set(cls([]).get_all_options(current_only=True))
    refuse_unknown(options.get_all_options(drop_default=True, retain_unknown_options=True), known)
    return options


def runner_name(options: PipelineOptions) -> str:
    """The name of a job's runner, such as `FlinkRunner`.

    Raises:
        UserError: Beam has no such runner.
    """
    value: str = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
    if "." in value:
        return value.rsplit(".", 1)[-1]
    names = (*StandardOptions.KNOWN_RUNNER_NAMES, DASK)
    known: dict[str, str] = {known_name.lower(): known_name for known_name in names}
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
    if name == DASK:
        # Beam does not know it by its short name.
        standard.runner = f"apache_beam.runners.dask.dask_runner.{DASK}"
    worker = options.view_as(WorkerOptions)
    # At the level of notes a worker writes down all options, keys of stores among them.
    # Java's name of it, which Python takes, too.
    worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or "WARN"
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
    if name == DASK:
        _check_dask(options)
    else:
        require_code(options, name)


def run_job(build: Callable[[beam.Pipeline], object], options: PipelineOptions) -> None:
    """Builds a pipeline and runs it to its end.

    Raises:
        UserError: an engine elsewhere does not take the job.
        JobError: the job failed there.
    """
    name = runner_name(options)
    if name in _LOCAL:
        in_thread(lambda: _run_here(build, options))
        return
    try:
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
    except Exception as error:  # Every engine has errors of its own.
        raise UserError(
            f"--runner {name}: the job cannot be submitted ({_cause(error)}); expected an engine "
            "that runs and can be reached"
        ) from error
    try:
        result.wait_until_finish()
    except Interrupted:
        # Nobody waits for it any longer.
        with contextlib.suppress(Exception):
            result.cancel()
        raise
    except Exception as error:
        cause = _cause(error)
        text = f"--runner {name}: the job failed ({cause.replace(_USER_ERROR, '')})"
        # Of a worker that cannot use what the flags name.
        raise (UserError if _USER_ERROR in cause else JobError)(text) from error
    # Not all engines hand them over.
    with contextlib.suppress(Exception):
        _print_counters(result.metrics())


def _print_counters(metrics: MetricResults) -> None:
    """Prints what a job's steps counted, each over all workers."""
    totals: collections.Counter[str] = collections.Counter()
    for counter in metrics.query(MetricsFilter().with_namespace(COUNTERS))["counters"]:
        totals[counter.key.metric.name] += counter.result
    if totals:
        counted = ", ".join(f"{name} {total:,}" for name, total in sorted(totals.items()))
        print(f"note: the job's counters: {counted}", file=sys.stderr)


def _cause(error: Exception) -> str:
    """What a job failed of, in one line: engines in Java hand over all of their stacks."""
    # The answers of Flink's REST API have the ends of lines as JSON has them.
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines()]
    of_a_step = [line for line in lines if "[while running" in line]
    of_java = [line.removeprefix(_CAUSE) for line in lines if line.startswith(_CAUSE)]
    if of_a_step:
        return of_a_step[0]
    return of_java[-1] if of_java else one_line(error)


def _run_here(build: Callable[[beam.Pipeline], object], options: PipelineOptions) -> None:
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline)


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


def _check_dask(options: PipelineOptions) -> None:
    """Looks for the code on the workers, too: they take no packages, it is installed there."""
    from apache_beam.runners.dask.dask_runner import DaskOptions
    from distributed import Client

    dask = options.view_as(DaskOptions)
    if not dask.address:
        return  # Its workers are on this machine, or in a file that Dask reads.
    flag = f"--dask_client_address {dask.address}"
    try:
        connected = Client(dask.address, timeout=_CONNECT_SECONDS)  # type: ignore[no-untyped-call]
        with connected as client:
            try:
                workers: dict[str, dict[str, str]] = client.run(installed_modules)
            except Exception as error:
                # Dask hands over the worker's ImportError, or an exception with its text alone.
                if not isinstance(error, ImportError) and "ModuleNotFoundError" not in str(error):
                    raise
                reason = one_line(error) if isinstance(error, ImportError) else error
                raise UserError(
                    f"{flag}: its workers do not have this code ({reason}); expected the wheel of "
                    "`make wheel` installed on each"
                ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{flag}: cannot be reached ({one_line(error)}); expected the address of Dask's "
            "scheduler, such as tcp://dask:8786"
        ) from None
    if not workers:
        raise UserError(f"{flag}: no workers are there; start them, then run the job again")
    for worker, found in workers.items():
        if name := differing_module(found):
            raise UserError(
                f"{flag}: {name} on the worker {worker} is not that of the code that submits the "
                "job; expected the wheel of `make wheel` installed on each"
            )
