"""The main job: convert, validate and publish CaiT models.

    python -m pipelines.publish --variants all --checkpoints DIR --sample_shard GLOB \
        --publish_to DIR

Exit status: 0 when every model was published, 1 when one was not, 2 for a wrong input.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from export import UserError
from signatures.addresses import is_url
from signatures.program import disk_full
from signatures.tables import as_text

from ..data.shards import plan_shards
from ..elements import ConvertTask, Shard, StagedModel
from ..gate.accuracy import require_labels, require_published, untested
from ..runtime.command_line import JobError, one_line_errors
from ..runtime.endings import tells_how_far_it_came
from ..runtime.engines import prepare_engine, run_job
from ..runtime.processors import limit_tensorflow_threads
from ..runtime.progress import POLL_SECONDS, show_progress
from ..runtime.workers import local_workers
from ..store.base import Store, open_store
from ..store.beam import BeamStore
from ..store.release import ModelInterface, refuse_other_classes, refuse_untrained
from ..store.retention import remove_versions
from ..store.staging import Staging, staging_area
from .configs import require_config, write_configs
from .context import PublishContext
from .ended import models_of, published_in_words
from .flags import PROG
from .options import PublishOptions, parse
from .parts import parts_for
from .remote_configs import write_remote_configs
from .report import read_report, table
from .signing import read_key, signed_at_the_end, unsigned_notes
from .tasks import prepare_tasks
from .transforms import add_steps


@one_line_errors
def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of the process when None.
        prog: the command as its help writes it.

    Returns:
        The exit status.
    """
    options, beam_options = parse(sys.argv[1:] if argv is None else argv, prog)
    return _publish(options, beam_options)


def _publish(options: PublishOptions, beam_options: PipelineOptions) -> int:
    limit_tensorflow_threads(local_workers(beam_options))
    FileSystems.set_options(beam_options)
    prepare_engine(beam_options, options.places, options.shared_disk)
    # Everything that can be wrong is found before anything is written.
    shards = plan_shards(options.sample_shard, options.first_label)
    for shard in shards:
        for name in shard.converted:
            print(f"note: --sample_shard {shard.name}: {name}: converted to PNG", file=sys.stderr)
    require_labels(options.accuracy_gate, shards)
    store = open_store(options.publish_to)
    store.require_writable()
    require_config(store)
    key = read_key(options.sign_with, store)
    tasks: list[ConvertTask] = []
    with (
        _staged(options) as (staging, scratch),
        tells_how_far_it_came(
            lambda: published_in_words(store, staging.run, tasks), store.address("")
        ),
    ):
        store.clean(options.staging_ttl)
        context = PublishContext(
            options=options,
            staging=staging,
            filesystem=beam_options.get_all_options(drop_default=True),
        )
        tasks += prepare_tasks(options, scratch / "checkpoints")
        require_published(options.accuracy_gate, tasks)
        if not options.allow_untrained and not all(task.checkpoint.trained for task in tasks):
            refuse_untrained(store)
        for task in tasks:
            _refuse_other_classes(store, task)
        if lacking := untested(options.accuracy_gate, tasks, shards):
            print(f"note: {lacking}", file=sys.stderr)
        with signed_at_the_end(store, staging.run, lambda: models_of(tasks), key):
            _run_pipeline(context, tasks, shards, beam_options)
        report = read_report(staging)
        published = [model for model in report["models"] if model["path"]]
        for note in unsigned_notes(store, published, key):
            print(f"note: {note}", file=sys.stderr)
        if published:
            _write_configs(options, scratch)
        if options.keep_versions is not None:
            for model in published:
                remove_versions(store, model["model"], options.keep_versions, staging.path)
    print(as_text(table(report)))
    refused = [model for model in report["models"] if model["failures"]]
    for model in refused:
        for failure in model["failures"]:
            print(f"refused: {model['model']}: {failure}", file=sys.stderr)
    return 1 if refused else 0


def _refuse_other_classes(store: Store, task: ConvertTask) -> None:
    for head in task.heads:
        staged = StagedModel(task.variant, head, task.checkpoint)
        classes = ModelInterface(head, staged.config.geometry, task.checkpoint.labels)
        refuse_other_classes(store, staged.model, classes)


def _write_configs(options: PublishOptions, scratch: pathlib.Path) -> None:
    """Writes what is around the models.

    Raises:
        JobError: it cannot be written, when the models already are.
    """
    left = "the versions are published; once this is mended, publishing them again writes the rest"
    try:
        if is_url(options.publish_to):
            write_remote_configs(
                BeamStore(options.publish_to), options.hub_publisher, scratch, options.hub_url
            )
        else:
            write_configs(options.publish_to, options.hub_publisher, options.hub_url)
    except UserError as error:
        if disk_full(error):
            raise
        raise JobError(f"{error}; {left}") from error
    except Exception as error:
        error.add_note(left)
        raise


@contextlib.contextmanager
def _staged(options: PublishOptions) -> Iterator[tuple[Staging, pathlib.Path]]:
    """The run's staging, and a directory on this disk for what the run needs while it lasts.

    Of a tree's directory that did not exist nothing stays if nothing was published.

    Raises:
        UserError: the tree, or the disk of `--staging_dir`, cannot be written.
    """
    root = pathlib.Path(options.publish_to)
    existed = is_url(options.publish_to) or root.exists()
    try:
        with contextlib.ExitStack() as stack:
            try:
                staging = stack.enter_context(
                    staging_area(options.publish_to, options.staging_ttl, options.staging_dir)
                )
            except OSError as error:
                raise UserError(
                    f"--publish_to {options.publish_to}: cannot be written "
                    f"({error.strerror or error}); expected a directory, or a place where one can "
                    "be made"
                ) from None
            try:
                scratch = stack.enter_context(staging.directory())
            except OSError as error:
                raise UserError(
                    f"--staging_dir {options.staging_dir}: cannot be written ({error.strerror}); "
                    "expected a directory, or a place where one can be made"
                ) from None
            yield staging, scratch
    finally:
        if not existed:
            # Not empty: something was published, or another run is at work there.
            with contextlib.suppress(OSError):
                root.rmdir()


def _run_pipeline(
    context: PublishContext,
    tasks: Sequence[ConvertTask],
    shards: Sequence[Shard],
    options: PipelineOptions,
) -> None:
    steps = sum(len(task.heads) * (2 + len(parts_for(task.variant, shards))) for task in tasks)
    poll_seconds = POLL_SECONDS[is_url(context.options.publish_to)]
    with show_progress(context.staging, steps, poll_seconds):
        run_job(lambda pipeline: add_steps(pipeline, context, tasks, shards), options)
