"""The transforms of the evaluation: what is lacking, RunInference, keeping what was found."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference

from ..runtime.progress import report_step
from .model_handler import EvaluateModelHandler
from .scores import EvaluateTask, ShardScore, read_score, write_score

_NAMESPACE = "cait"

# A model's shards are dealt into so many parts at most. A part is one worker's, with one load of
# the model, so this bounds the workers that a model is evaluated on.
_PARTS = 32


@dataclasses.dataclass(frozen=True)
class EvaluateContext:
    """What every step of a run has to know.

    Attributes:
        output: absolute path of the directory that figures are kept in.
        failed: directory of the run, for the errors of tasks that failed.
        progress: where finished steps are reported.
        batch_size: images of a request.
    """

    output: str
    failed: str
    progress: str
    batch_size: int


class Evaluate(beam.PTransform):
    """`EvaluateTask` -> `(EvaluateTask, ShardScore)`, each kept as soon as it is there.

    A task whose figures are kept already, by an earlier run or by a bundle that is done again, is
    passed over.
    """

    def __init__(self, run: EvaluateContext) -> None:
        super().__init__()
        self._run = run

    def expand(self, tasks: beam.PCollection) -> beam.PCollection:
        return (
            tasks
            | "Part" >> beam.Map(_with_part)
            # A worker gets a part as a whole, and so does not change models all the time.
            | "ByPart" >> beam.GroupByKey()
            | "Lacking" >> beam.FlatMap(_lacking, self._run.output)
            | "Infer" >> RunInference(EvaluateModelHandler(self._run.batch_size))
            | "Keep" >> beam.ParDo(_KeepFn(self._run))
        )


def _with_part(task: EvaluateTask) -> tuple[tuple[str, int], EvaluateTask]:
    return (task.model.path, int(task.shard.identity, 16) % _PARTS), task


def _lacking(
    part: tuple[tuple[str, int], Iterable[EvaluateTask]], output: str
) -> Iterator[EvaluateTask]:
    for task in part[1]:
        if read_score(output, task) is None:
            yield task


class _KeepFn(beam.DoFn):
    def __init__(self, run: EvaluateContext) -> None:
        self._run = run
        self._images = Metrics.counter(_NAMESPACE, "images_evaluated")
        self._undecodable = Metrics.counter(_NAMESPACE, "images_undecodable")
        self._seconds = Metrics.distribution(_NAMESPACE, "evaluate_milliseconds")

    def process(
        self, found: tuple[EvaluateTask, ShardScore]
    ) -> Iterator[tuple[EvaluateTask, ShardScore]]:
        task, score = found
        # What failed is tried again by the next run.
        write_score(self._run.failed if score.error else self._run.output, task, score)
        self._images.inc(score.images)
        self._undecodable.inc(len(score.undecodable))
        self._seconds.update(int(1000 * score.seconds))
        subject = f"{task.model.name} {task.model.version} on {pathlib.Path(task.shard.name).name}"
        report_step(self._run.progress, "evaluate", subject, score.seconds)
        yield found
