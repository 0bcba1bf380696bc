"""The transforms of the publish pipeline: Convert, Validate, Publish, Report.

They only wire functions that are written and tested elsewhere. Elements are records of names,
paths and figures. A model that fails goes on as a record that says why, so that the others are
published and the report names it.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import threadpoolctl
from apache_beam.metrics import Metrics

from export.variants import Variant

from ..elements import ConvertTask, ModelReport, Shard, ShardResult, StagedModel, StagedVariant
from ..runtime.quiet import load_tensorflow
from ..runtime.steps import COUNTERS, ONE_MODEL, StepFn
from ..runtime.workers import dealt_evenly, local_workers
from .context import PublishContext
from .parts import cost_of, parts_for
from .report import write_report

_Validated = tuple[int, StagedVariant, tuple[ShardResult, ...]]
"""A shard's number, a variant, and what the gate found of each of its models on the shard."""


class Convert(beam.PTransform):
    """`ConvertTask` -> `StagedVariant`."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, tasks: beam.PCollection) -> beam.PCollection:
        return (
            tasks
            # Breaks the fusion with what made the tasks, so that workers share them.
            | "SpreadTasks" >> beam.Reshuffle()
            | "ConvertVariant" >> beam.ParDo(_ConvertFn(self._context))
        )


class Validate(beam.PTransform):
    """`StagedVariant` -> `(StagedModel, [ShardResult, ...])`, fanned out over the shards.

    A variant's models stay together up to the gate: one pass of the reference serves all of them.
    """

    def __init__(
        self, context: PublishContext, variants: Sequence[Variant], shards: Sequence[Shard]
    ) -> None:
        super().__init__()
        self._context = context
        self._costs = {
            (variant.name, part.number): cost_of(variant, part)
            for variant in variants
            for part in parts_for(variant, shards)
        }
        self._shards = tuple(shards)

    def expand(self, staged: beam.PCollection) -> beam.PCollection:
        order = dealt_evenly(self._costs, local_workers(staged.pipeline.options))
        return (
            staged
            | "FanOut" >> beam.ParDo(_FanOutFn(order, self._shards))
            # Keeps conversions, too: a later failure repeats none of them.
            | "ShareOut" >> beam.GroupByKey()
            | "Work" >> beam.FlatMapTuple(lambda _, work: [entry for entry in work if entry])
            | "ValidateVariant" >> beam.ParDo(_ValidateFn(self._context))
            | "ByVariant" >> beam.GroupByKey()
            | "ByModel" >> beam.FlatMapTuple(_by_model)
        )


class Publish(beam.PTransform):
    """`(StagedModel, [ShardResult, ...])` -> `ModelReport`; what passed the gate is released."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, validated: beam.PCollection) -> beam.PCollection:
        return (
            validated
            | "PublishModel" >> beam.ParDo(_PublishFn(self._context))
            # Keeps what was published: a failure of the report repeats no release.
            | "KeepReports" >> beam.Reshuffle()
        )


class Report(beam.PTransform):
    """Every `ModelReport` -> the report's files. Records only: gathering them is cheap."""

    def __init__(self, context: PublishContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, reports: beam.PCollection) -> beam.PCollection:
        return (
            reports
            | "GatherReports" >> beam.combiners.ToList()
            | "WriteReport" >> beam.ParDo(_ReportFn(self._context))
        )


def add_steps(
    pipeline: beam.Pipeline,
    context: PublishContext,
    tasks: Sequence[ConvertTask],
    shards: Sequence[Shard],
) -> None:
    """Adds all steps of a publish run to a pipeline without any.

    Args:
        pipeline: the pipeline.
        context: what the steps have to know.
        tasks: the variants.
        shards: the sample.
    """
    (
        pipeline
        # `Convert` spreads them among the workers.
        | "Tasks" >> beam.Create(tasks, reshuffle=False)
        | "Convert" >> Convert(context)
        | "Validate" >> Validate(context, [task.variant for task in tasks], shards)
        | "Publish" >> Publish(context)
        | "Report" >> Report(context)
    )


def _by_model(
    _variant: str, validated: Iterable[_Validated]
) -> Iterator[tuple[StagedModel, list[ShardResult]]]:
    # They come in any order; of equal differences the report names the first image.
    shards = sorted(validated, key=lambda entry: entry[0])
    _, staged, _ = shards[0]
    for i, model in enumerate(staged.models):
        yield model, [results[i] for *_, results in shards]


class _ReportFn(StepFn[PublishContext]):
    def process(self, reports: Sequence[ModelReport]) -> None:
        write_report(reports, self._context.staging)


_Key = tuple[str, int]
"""A variant and the number of a part of the sample."""


class _FanOutFn(beam.DoFn):
    """`StagedVariant` -> `((variant, part), (StagedVariant, Shard))`, and keys without work.

    Beam's runner on this machine deals keys to its workers in turn, in the order in which it first
    sees them. Whatever variant is staged first, it sees all keys before, in this order.

    Args:
        order: variants and numbers of parts; None for a turn without work.
        shards: the sample.
    """

    def __init__(self, order: Sequence[_Key | None], shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._keys: list[_Key] = [key or ("", turn) for turn, key in enumerate(order)]

    def start_bundle(self) -> None:
        self._begun = False

    def process(
        self, staged: StagedVariant
    ) -> Iterator[tuple[_Key, tuple[StagedVariant, Shard] | None]]:
        if not self._begun:
            self._begun = True
            yield from ((key, None) for key in self._keys)
        for part in parts_for(staged.models[0].variant, self._shards):
            yield (staged.name, part.number), (staged, part)


class _ConvertFn(StepFn[PublishContext]):
    def __init__(self, context: PublishContext) -> None:
        super().__init__(context)
        self._converted = Metrics.counter(COUNTERS, "models_converted")
        self._bytes = Metrics.counter(COUNTERS, "bytes_written")
        self._milliseconds = Metrics.distribution(COUNTERS, "convert_milliseconds")

    def setup(self) -> None:
        super().setup()
        load_tensorflow()

    def process(self, task: ConvertTask) -> Iterator[StagedVariant]:
        from .convert import convert_variant

        started = time.perf_counter()
        with ONE_MODEL:
            staged = convert_variant(task, self._context)
        self._converted.inc(sum(not model.error for model in staged.models))
        self._bytes.inc(sum(model.bytes for model in staged.models))
        self._milliseconds.update(_milliseconds_since(started))
        yield staged


class _ValidateFn(StepFn[PublishContext]):
    def __init__(self, context: PublishContext) -> None:
        super().__init__(context)
        self._images = Metrics.counter(COUNTERS, "images_compared")
        self._bad_images = Metrics.counter(COUNTERS, "images_undecodable")
        self._milliseconds = Metrics.distribution(COUNTERS, "validate_milliseconds")

    def setup(self) -> None:
        super().setup()
        load_tensorflow()
        from .validate import LoadedModels

        self._loaded = LoadedModels()
        # The threads of NumPy's products wait by spinning, and so do TensorFlow's: on two cores,
        # products with two threads took up to five times as long as with one.
        threadpoolctl.threadpool_limits(1, "blas")

    def process(self, work: tuple[StagedVariant, Shard]) -> Iterator[tuple[str, _Validated]]:
        from .validate import validate_variant

        started = time.perf_counter()
        staged, shard = work
        with ONE_MODEL:
            results = validate_variant(staged, shard, self._context, self._loaded)
        for result in results:
            self._images.inc(result.images)
            self._bad_images.inc(len(result.bad_images))
        self._milliseconds.update(_milliseconds_since(started))
        yield staged.name, (shard.number, staged, results)


class _PublishFn(StepFn[PublishContext]):
    def __init__(self, context: PublishContext) -> None:
        super().__init__(context)
        self._published = Metrics.counter(COUNTERS, "models_published")
        self._unchanged = Metrics.counter(COUNTERS, "models_unchanged")
        self._refused = Metrics.counter(COUNTERS, "models_refused")
        self._milliseconds = Metrics.distribution(COUNTERS, "publish_milliseconds")

    def process(self, validated: tuple[StagedModel, list[ShardResult]]) -> Iterator[ModelReport]:
        from .publication import publish_model

        started = time.perf_counter()
        report = publish_model(*validated, self._context)
        if report.failures:
            self._refused.inc()
        else:
            (self._unchanged if report.unchanged else self._published).inc()
        self._milliseconds.update(_milliseconds_since(started))
        yield report


def _milliseconds_since(started: float) -> int:
    return int(1000 * (time.perf_counter() - started))
