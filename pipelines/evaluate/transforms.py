"""The transforms of the evaluation: which figures are missing, RunInference, keeping figures."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference

from ..runtime.progress import Step, report_step
from ..runtime.steps import COUNTERS, StepFn
from ..store.area import Area
from .model_handler import EvaluateModelHandler
from .scores import EvaluateTask, ShardScore, read_score, write_score


@dataclasses.dataclass(frozen=True)
class EvaluateContext:
    """What every step of a run has to know.

    Attributes:
        output: where figures are kept.
        run: what the run keeps until it ends: its progress, and the errors of tasks that failed.
        batch_size: images of a request.
        filesystem: Beam's options, without which a worker cannot open the store.
    """

    output: Area
    run: Area
    batch_size: int
    filesystem: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)


class Evaluate(beam.PTransform):
    """`EvaluateTask` -> `(EvaluateTask, ShardScore)`, each kept as soon as it is there.

    A task whose figures are kept already, by an earlier run or by a bundle that is done again, is
    passed over.
    """

    def __init__(self, context: EvaluateContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, tasks: beam.PCollection) -> beam.PCollection:
        return (
            tasks
            | "Part" >> beam.Map(_with_part)
            # A worker gets a part as a whole, and so does not change models all the time.
            | "ByPart" >> beam.GroupByKey()
            | "Lacking" >> beam.ParDo(_LackingFn(self._context))
            | "Infer"
            >> RunInference(
                EvaluateModelHandler(
                    self._context.batch_size, self._context.filesystem, self._context.run
                )
            )
            | "Keep" >> beam.ParDo(_KeepFn(self._context))
        )


def _with_part(task: EvaluateTask) -> tuple[tuple[str, int], EvaluateTask]:
    return (task.model.path, task.part), task


class _LackingFn(StepFn[EvaluateContext]):
    def process(
        self, part: tuple[tuple[str, int], Iterable[EvaluateTask]]
    ) -> Iterator[EvaluateTask]:
        for task in part[1]:
            if read_score(self._context.output, task) is None:
                yield task


class _KeepFn(StepFn[EvaluateContext]):
    def __init__(self, context: EvaluateContext) -> None:
        super().__init__(context)
        self._images = Metrics.counter(COUNTERS, "images_evaluated")
        self._undecodable = Metrics.counter(COUNTERS, "images_undecodable")
        self._seconds = Metrics.distribution(COUNTERS, "evaluate_milliseconds")

    def process(
        self, found: tuple[EvaluateTask, ShardScore]
    ) -> Iterator[tuple[EvaluateTask, ShardScore]]:
        task, score = found
        # What failed is tried again by the next run.
        write_score(self._context.run if score.error else self._context.output, task, score)
        self._images.inc(score.images)
        self._undecodable.inc(len(score.undecodable))
        self._seconds.update(int(1000 * score.seconds))
        step = Step("evaluate", task.model.title, task.shard.name, score.seconds, score.images)
        report_step(self._context.run, step)
        yield found
