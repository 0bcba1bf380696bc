"""The transforms of the publish pipeline: Convert, Validate, Publish, Report.

They only wire functions that are written and tested elsewhere. Elements are records of names,
paths and figures. A model that fails goes on as a record that says why, so that the others are
published and the report names it.
"""

import dataclasses
import pathlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import threadpoolctl
from apache_beam.metrics import Metrics

from export.errors import one_line
from export.memory import release_memory
from export.variants import get_variant
from serving_configs import hub_handle
from signatures.labels import default_labels

from ..elements import (
    ConvertTask,
    ModelReport,
    Shard,
    ShardResult,
    StagedModel,
    add_seconds,
)
from ..runtime.progress import report_step
from ..runtime.quiet import load_tensorflow
from ..runtime.workers import longest_first
from ..store.release import ReleaseError, release
from .configs import prepare_for_serving
from .decision import judge
from .draft import draft_manifest
from .options import PublishOptions
from .report import write_report

_NAMESPACE = "cait"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishContext:
    """What every step of a run has to know.

    Attributes:
        options: the job's options.
        staging: the run's directory in the staging area.
        labels: names of the classes; None for ImageNet's, or numbers where there are not as many.
    """

    options: PublishOptions
    staging: pathlib.Path
    labels: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Of the run, and of nothing else: a step that is done again is known by it."""
        return self.staging.name

    @property
    def progress(self) -> str:
        """Where finished steps are reported."""
        return str(self.staging / "progress")


class Convert(beam.PTransform):
    """`ConvertTask` -> `StagedModel`, one for each head."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, tasks: beam.PCollection) -> beam.PCollection:
        return (
            tasks
            # Breaks the fusion with what made the tasks, so that workers share them.
            | "Spread" >> beam.Reshuffle()
            | "Convert" >> beam.ParDo(_ConvertFn(self._context))
        )


class Validate(beam.PTransform):
    """`StagedModel` -> `(StagedModel, [ShardResult, ...])`, fanned out over the shards."""

    def __init__(self, context: PublishContext, shards: Sequence[Shard]) -> None:
        super().__init__()
        self._context = context
        # One shard of them is enough to measure a model.
        self._shards = tuple(
            dataclasses.replace(shard, measure=not i) for i, shard in enumerate(shards)
        )

    def expand(self, staged: beam.PCollection) -> beam.PCollection:
        return (
            staged
            # Records only: gathering them is cheap.
            | "GatherStaged" >> beam.combiners.ToList()
            | "FanOut" >> beam.FlatMap(_fan_out, self._shards)
            # A step below that fails is done again without a second conversion.
            | "SpreadStaged" >> beam.Reshuffle()
            | "Compare" >> beam.ParDo(_ValidateFn(self._context))
            | "ByModel" >> beam.GroupByKey()
            | "Gather" >> beam.MapTuple(_gather)
        )


class Publish(beam.PTransform):
    """`(StagedModel, [ShardResult, ...])` -> `ModelReport`; what passed the gate is released."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, validated: beam.PCollection) -> beam.PCollection:
        return validated | "Release" >> beam.ParDo(_PublishFn(self._context)) | beam.Reshuffle()


class Report(beam.PTransform):
    """Every `ModelReport` -> the report's files. Records only: gathering them is cheap."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, reports: beam.PCollection) -> beam.PCollection:
        return (
            reports
            | "Gather" >> beam.combiners.ToList()
            | "Write"
            >> beam.Map(
                write_report,
                publish_to=self._context.options.publish_to,
                staging=str(self._context.staging),
            )
        )


def _fan_out(
    staged: Sequence[StagedModel], shards: Sequence[Shard]
) -> Iterator[tuple[list[StagedModel], Shard]]:
    """The heads of a variant come together: one pass of the reference is enough for both. It is
    counted at the one that comes first, the classifier.
    """
    by_variant: dict[str, list[StagedModel]] = {}
    for model in staged:
        by_variant.setdefault(model.variant, []).append(model)
    for variant in longest_first(get_variant(name) for name in by_variant):
        for shard in shards:
            yield sorted(by_variant[variant.name], key=lambda model: model.head), shard


def _gather(
    _model: str, found: Iterable[tuple[StagedModel, ShardResult]]
) -> tuple[StagedModel, list[ShardResult]]:
    pairs = list(found)
    return pairs[0][0], [result for _, result in pairs]


class _ConvertFn(beam.DoFn):
    def __init__(self, context: PublishContext) -> None:
        self._context = context
        self._converted = Metrics.counter(_NAMESPACE, "models_converted")
        self._bytes = Metrics.counter(_NAMESPACE, "bytes_written")
        self._seconds = Metrics.distribution(_NAMESPACE, "convert_milliseconds")

    def setup(self) -> None:
        load_tensorflow()

    def process(self, task: ConvertTask) -> Iterator[StagedModel]:
        from export.convert import convert

        started = time.perf_counter()
        left = list(task.heads)
        # Unique to the attempt: a runner may have two at once.
        attempt = self._context.staging / uuid.uuid4().hex
        base = StagedModel(
            task.variant,
            task.heads[0],
            task.checkpoint,
            compute_dtype=self._context.options.compute_dtype,
        )
        directories = {head: attempt / base.row.model_name(head) for head in task.heads}
        try:
            for converted in convert(
                task.variant,
                base.config,
                task.checkpoint.tensors(),
                directories,
                self._context.labels or default_labels(base.config.num_classes),
                task.checkpoint.trained,
                self._context.options.compute_dtype,
            ):
                size = sum(f.stat().st_size for f in converted.directory.rglob("*") if f.is_file())
                staged = dataclasses.replace(
                    base,
                    head=converted.head,
                    path=str(converted.directory),
                    parameters=converted.parameters,
                    bytes=size,
                    seconds=converted.seconds,
                )
                left.remove(converted.head)
                self._converted.inc()
                self._bytes.inc(size)
                self._seconds.update(int(1000 * (time.perf_counter() - started)))
                report_step(
                    self._context.progress, "convert", staged.model, time.perf_counter() - started
                )
                started = time.perf_counter()
                yield staged
        except Exception as error:
            for head in left:
                yield dataclasses.replace(
                    base, head=head, error=f"conversion failed: {one_line(error)}"
                )


class _ValidateFn(beam.DoFn):
    def __init__(self, context: PublishContext) -> None:
        self._context = context
        self._images = Metrics.counter(_NAMESPACE, "images_compared")
        self._bad_images = Metrics.counter(_NAMESPACE, "images_undecodable")
        self._seconds = Metrics.distribution(_NAMESPACE, "validate_milliseconds")

    def setup(self) -> None:
        load_tensorflow()
        # The threads of NumPy's products wait by spinning, and so do TensorFlow's: on two cores,
        # products with two threads took up to five times as long as with one.
        threadpoolctl.threadpool_limits(1, "blas")

    def process(
        self, work: tuple[Sequence[StagedModel], Shard]
    ) -> Iterator[tuple[str, tuple[StagedModel, ShardResult]]]:
        from .validate import PreparedShard

        models, shard = work
        prepared: PreparedShard | None = None
        for staged in models:
            started = time.perf_counter()
            result = ShardResult()
            if not staged.error:
                try:
                    if prepared is None:
                        prepared = PreparedShard(staged, shard)
                    result = prepared.compare(staged, self._context.labels)
                except Exception as error:
                    result = ShardResult(error=one_line(error))
                # It would stay beside the next one.
                release_memory()
                self._images.inc(result.images)
                self._bad_images.inc(len(result.bad_images))
                self._seconds.update(int(1000 * (time.perf_counter() - started)))
            subject = f"{staged.model} on {pathlib.Path(shard.path).name}"
            report_step(self._context.progress, "validate", subject, time.perf_counter() - started)
            yield staged.model, (staged, result)


class _PublishFn(beam.DoFn):
    def __init__(self, context: PublishContext) -> None:
        self._context = context
        self._published = Metrics.counter(_NAMESPACE, "models_published")
        self._unchanged = Metrics.counter(_NAMESPACE, "models_unchanged")
        self._refused = Metrics.counter(_NAMESPACE, "models_refused")
        self._seconds = Metrics.distribution(_NAMESPACE, "publish_milliseconds")

    def process(self, validated: tuple[StagedModel, list[ShardResult]]) -> Iterator[ModelReport]:
        started = time.perf_counter()
        report = judge(
            *validated, self._context.options.max_bad_images, self._context.options.accuracy_gate
        )
        if not report.failures:
            try:
                report = self._release(validated[0], report, started)
                (self._unchanged if report.unchanged else self._published).inc()
            except (OSError, ReleaseError) as error:
                report = dataclasses.replace(
                    report, failures=(f"publishing failed: {one_line(error)}",)
                )
        if report.failures:
            self._refused.inc()
        seconds = time.perf_counter() - started
        self._seconds.update(int(1000 * seconds))
        report_step(self._context.progress, "publish", report.model, seconds)
        yield report

    def _release(self, staged: StagedModel, report: ModelReport, started: float) -> ModelReport:
        # A step that is done again finds its version in place, and nothing staged any more.
        if pathlib.Path(staged.path).is_dir():
            prepare_for_serving(staged, report)
        released = release(
            pathlib.Path(staged.path),
            self._context.options.publish_to,
            draft_manifest(staged, report, self._context.name),
            self._context.options.version,
            self._context.options.allow_untrained,
        )
        return dataclasses.replace(
            report,
            version=released.version,
            path=released.path,
            unchanged=not released.new,
            hub_handle=hub_handle(
                self._context.options.hub_publisher, report.model, released.version
            ),
            seconds=add_seconds(report.seconds, {"publish": time.perf_counter() - started}),
        )
