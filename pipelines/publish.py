"""The main job: convert, validate and publish CaiT models.

    python -m pipelines.publish --variants all --checkpoints DIR --sample_shard GLOB \
        --publish_to DIR

Exit status: 0 when every model was published, 1 when one was refused, 2 for a wrong input.
"""

import contextlib
import pathlib
import shutil
import sys
import uuid
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from export import UserError, checkpoint_source, get_variant, open_checkpoint
from serving_configs import staging_root

from .options import PublishOptions, parse
from .progress import follow
from .records import ConvertTask, Shard
from .report import as_text, read_report, table
from .shards import plan_shards
from .transforms import Convert, Publish, Report, Run, Validate

# Runs in this process and its children. Beam's default would look for another runner first.
_DEFAULT_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.

    Returns:
        The exit status.
    """
    try:
        options, beam_options = parse(sys.argv[1:] if argv is None else argv)
        return _publish(options, beam_options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _publish(options: PublishOptions, beam_options: PipelineOptions) -> int:
    # Everything that can be wrong is found before anything is written.
    shards = plan_shards(options.sample_shard)
    existed = pathlib.Path(options.publish_to).exists()
    run = _prepare_run(options)
    staging = pathlib.Path(run.staging)
    try:
        tasks = _prepare_tasks(options, staging / "checkpoints")
        _run_pipeline(run, tasks, shards, beam_options)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_if_empty(staging.parent)
        if not existed:
            _remove_if_empty(pathlib.Path(options.publish_to))
    report = read_report(options.publish_to)
    print(as_text(table(report)))
    refused = [model for model in report["models"] if model["failures"]]
    for model in refused:
        for failure in model["failures"]:
            print(f"refused: {model['model']}: {failure}", file=sys.stderr)
    return 1 if refused else 0


def _prepare_run(options: PublishOptions) -> Run:
    name = uuid.uuid4().hex
    staging = staging_root(options.publish_to) / name
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"--publish_to {options.publish_to}: cannot be written ({error.strerror}); expected "
            "a directory, or a place where one can be made"
        ) from None
    return Run(
        name,
        options.publish_to,
        str(staging),
        str(staging / "progress"),
        options.hub_publisher,
        options.max_bad_images,
    )


def _prepare_tasks(options: PublishOptions, cache: pathlib.Path) -> list[ConvertTask]:
    source = checkpoint_source(options.checkpoints)
    return [
        ConvertTask(name, options.heads, open_checkpoint(source, get_variant(name), cache))
        for name in options.variants
    ]


def _run_pipeline(
    run: Run, tasks: Sequence[ConvertTask], shards: Sequence[Shard], options: PipelineOptions
) -> None:
    standard = options.view_as(StandardOptions)
    if not standard.runner:
        standard.runner = _DEFAULT_RUNNER
    models = sum(len(task.heads) for task in tasks)
    steps = models * (2 + len(shards))
    with follow(pathlib.Path(run.progress), steps), beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "Tasks" >> beam.Create(tasks)
            | "Convert" >> Convert(run)
            | "Validate" >> Validate(run, shards)
            | "Publish" >> Publish(run)
            | "Report" >> Report(run)
        )


def _remove_if_empty(directory: pathlib.Path) -> None:
    # Not empty: another run is at work there.
    with contextlib.suppress(OSError):
        directory.rmdir()


if __name__ == "__main__":
    sys.exit(main())
