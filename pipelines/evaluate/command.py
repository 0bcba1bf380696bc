"""Measures the accuracy of published classifiers, as they are served.

    python -m pipelines.evaluate --models PUBLISH_TO/serving --data DIR_OR_GLOB

Exit status: 0 when every model was evaluated, 1 when one was not, 2 for a wrong input.
"""

import sys
import uuid
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError
from signatures.addresses import is_url
from signatures.program import removed_at_the_end
from signatures.tables import as_text

from ..data.class_names import ModelClasses, UnknownClassError
from ..data.labelled import DataShard, plan_data
from ..runtime.command_line import one_line_errors
from ..runtime.endings import tells_how_far_it_came
from ..runtime.engines import prepare_engine, run_job
from ..runtime.processors import limit_tensorflow_threads
from ..runtime.progress import POLL_SECONDS, show_progress
from ..runtime.workers import local_workers
from ..store.area import Area
from .confusion import files_of
from .options import EvaluateOptions, parse
from .parts import tasks_of
from .published_models import find_classifiers
from .report import (
    check_table,
    evaluation_of,
    evaluation_table,
    fill_table,
    notes_of,
    write_classes,
    write_evaluation,
)
from .scores import EvaluateTask, ServedModel, ShardScore, read_score
from .transforms import Evaluate, EvaluateContext


@one_line_errors
def main(argv: Sequence[str] | None = None, prog: str = "python -m pipelines.evaluate") -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    options, beam_options = parse(sys.argv[1:] if argv is None else argv, prog)
    return _evaluate(options, beam_options)


def _evaluate(options: EvaluateOptions, beam_options: PipelineOptions) -> int:
    limit_tensorflow_threads(local_workers(beam_options))
    FileSystems.set_options(beam_options)
    prepare_engine(beam_options, options.places, options.shared_disk)
    # Everything that can be wrong is found before the work begins.
    if options.table:
        check_table(options.table)
    models = find_classifiers(options.models, options.variants, options.versions)
    work = _plan(options, models)
    tasks = tasks_of(work)
    run = _begin(options.output)
    context = EvaluateContext(
        output=Area(options.output, ""),
        run=run,
        batch_size=options.batch_size,
        filesystem=beam_options.get_all_options(drop_default=True),
    )
    with tells_how_far_it_came(lambda: _in_words(context, tasks), options.output):
        with removed_at_the_end(run.remove):
            _run_pipeline(context, tasks, beam_options)
            entries: list[dict[str, Any]] = []
            files: dict[str, bytes] = {}
            for model, shards in work:
                scores, failures = _scores(context, model, shards)
                entries.append(evaluation_of(model, scores, failures))
                if not failures:
                    files |= files_of(model, scores)
        write_evaluation(entries, options.data, options.output)
        write_classes(files, options.output)
        left_out = fill_table(options.table, entries) if options.table else []
    print(as_text(evaluation_table(entries)))
    notes = notes_of(entries)
    if left_out:
        notes.append(
            f"--table {options.table}: without {', '.join(left_out)}; no accuracy is published of "
            "such weights"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for entry in entries:
        for failure in entry["failures"]:
            print(f"failed: {entry['model']} {entry['version']}: {failure}", file=sys.stderr)
    return 1 if any(entry["failures"] for entry in entries) else 0


def _in_words(context: EvaluateContext, tasks: Sequence[EvaluateTask]) -> str:
    done = sum(read_score(context.output, task) is not None for task in tasks)
    return f"{done} of {len(tasks)} parts are measured and kept"


def _plan(
    options: EvaluateOptions, models: Sequence[ServedModel]
) -> list[tuple[ServedModel, tuple[DataShard, ...]]]:
    """Each model with its data, to which its classes give numbers."""
    planned: dict[tuple[str, ...], tuple[DataShard, ...]] = {}
    for model in models:
        if model.class_names not in planned:
            planned[model.class_names] = _plan_data(options, model, len(models))
    return [(model, planned[model.class_names]) for model in models]


def _plan_data(options: EvaluateOptions, model: ServedModel, models: int) -> tuple[DataShard, ...]:
    classes = ModelClasses(model.title, model.class_names)
    try:
        return plan_data(options.data, classes, options.first_label, options.only_jpeg_png)
    except UnknownClassError as error:
        if models == 1 or options.variants:
            raise
        raise UserError(f"{error}; --variants leaves models of other classes out") from None


def _begin(output: str) -> Area:
    """The run's own objects, which go with it."""
    run = Area(output, f".run-{uuid.uuid4().hex}")
    try:
        run.write("begun", b"begun\n")
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror or error}); expected a "
            "directory, or a place where one can be made"
        ) from None
    return run


def _run_pipeline(
    context: EvaluateContext, tasks: Sequence[EvaluateTask], options: PipelineOptions
) -> None:
    lacking = sum(read_score(context.output, task) is None for task in tasks)
    if not lacking:
        return

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | "Tasks" >> beam.Create(tasks) | "Evaluate" >> Evaluate(context)

    with show_progress(context.run, lacking, POLL_SECONDS[is_url(context.run.root)]):
        run_job(build, options)


def _scores(
    context: EvaluateContext, model: ServedModel, shards: Sequence[DataShard]
) -> tuple[list[ShardScore], list[str]]:
    """The figures of the shards that were done, and why others were not."""
    scores, failures = [], []
    for shard in shards:
        task = EvaluateTask(model, shard)
        score = read_score(context.output, task)
        if score is not None:
            scores.append(score)
            continue
        failed = read_score(context.run, task)
        why = failed.error if failed else "its figures are lost; run the command again"
        failures.append(f"{shard.name}: {why}")
    return scores, failures
