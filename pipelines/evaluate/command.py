"""Measures the accuracy of published classifiers, as they are served.

    python -m pipelines.evaluate --models PUBLISH_TO/serving --data DIR_OR_GLOB

Exit status: 0 when every model was evaluated, 1 when one was not, 2 for a wrong input.
"""

import pathlib
import shutil
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError

from ..data.labelled import DataShard, plan_data
from ..runtime.processors import limit_tensorflow_threads
from ..runtime.progress import show_progress
from ..runtime.tables import as_text
from ..runtime.workers import local_workers
from .options import EvaluateOptions, parse
from .published_models import find_classifiers
from .report import (
    check_table,
    evaluation_of,
    evaluation_table,
    fill_table,
    write_evaluation,
)
from .scores import EvaluateTask, ServedModel, read_score
from .transforms import Evaluate, EvaluateContext


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipelines.evaluate") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    try:
        options, beam_options = parse(sys.argv[1:] if argv is None else argv, prog)
        return _evaluate(options, beam_options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _evaluate(options: EvaluateOptions, beam_options: PipelineOptions) -> int:
    limit_tensorflow_threads(local_workers(beam_options))
    # Everything that can be wrong is found before the work begins.
    if options.table:
        check_table(options.table)
    models = find_classifiers(options.models, options.variants, options.versions)
    shards = plan_data(options.data, options.first_label)
    tasks = [EvaluateTask(model, shard) for model in models for shard in shards]
    scratch = _make_scratch(options.output)
    run = EvaluateContext(
        options.output, str(scratch / "failed"), str(scratch / "progress"), options.batch_size
    )
    try:
        _run_pipeline(run, tasks, beam_options)
        entries = [_entry(run, model, shards) for model in models]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_evaluation(entries, options.data, options.output)
    if options.table:
        fill_table(options.table, entries)
    print(as_text(evaluation_table(entries)))
    for entry in entries:
        for failure in entry["failures"]:
            print(f"failed: {entry['model']} {entry['version']}: {failure}", file=sys.stderr)
    return 1 if any(entry["failures"] for entry in entries) else 0


def _make_scratch(output: str) -> pathlib.Path:
    scratch = pathlib.Path(output) / f".run-{uuid.uuid4().hex}"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror}); expected a directory, or a "
            "place where one can be made"
        ) from None
    return scratch


def _run_pipeline(
    run: EvaluateContext, tasks: Sequence[EvaluateTask], options: PipelineOptions
) -> None:
    lacking = sum(read_score(run.output, task) is None for task in tasks)
    if not lacking:
        return
    with (
        show_progress(pathlib.Path(run.progress), lacking),
        beam.Pipeline(options=options) as pipeline,
    ):
        pipeline | "Tasks" >> beam.Create(tasks) | "Evaluate" >> Evaluate(run)


def _entry(run: EvaluateContext, model: ServedModel, shards: Sequence[DataShard]) -> dict[str, Any]:
    scores, failures = [], []
    for shard in shards:
        task = EvaluateTask(model, shard)
        score = read_score(run.output, task)
        if score is not None:
            scores.append(score)
            continue
        failed = read_score(run.failed, task)
        why = failed.error if failed else "its figures are lost; run the command again"
        failures.append(f"{shard.name}: {why}")
    return evaluation_of(model, scores, failures)
