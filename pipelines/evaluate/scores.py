"""What is counted of a model on a shard of the data, and the objects that keep it.

A shard's figures are in the store as soon as it is done, so that a run that is killed goes on with
the shards it lacks. An object is named by what was evaluated on what: another version, or data that
changed, finds no object of its own.
"""

import dataclasses
import json

from export.variants import VARIANTS, Variant
from serving_configs import FileRecord
from signatures.labels import default_labels

from ..data.labelled import DataShard
from ..store.area import Area


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A published classifier.

    Attributes:
        name: the model's name.
        version: its number.
        variant: name of the variant.
        root: of its store, a directory or a URL.
        files: its files.
        gigaflops: multiply-adds of an image, roughly, in thousands of millions.
        digest: of its content, SHA-256 in hexadecimal, from its manifest.
        has_published_accuracy: whether the variant's published figures are of such weights.
        num_classes: outputs of its head.
        labels: names of its classes; empty for ImageNet's, or numbers where there are not as many.
        trained: False for random weights.
    """

    name: str
    version: int
    variant: str
    root: str
    digest: str
    files: tuple[FileRecord, ...] = ()
    gigaflops: float = 1.0
    has_published_accuracy: bool = True
    num_classes: int = 1000
    labels: tuple[str, ...] = ()
    trained: bool = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes, also where they are the default ones."""
        return self.labels or default_labels(self.num_classes)

    @property
    def published_variant(self) -> Variant | None:
        """The variant whose published accuracy is this model's, too; None where none is.

        It is not where the name, the classes or the weights are somebody's own.
        """
        variant = VARIANTS.get(self.variant)
        if variant is None or not (self.has_published_accuracy and self.trained) or self.labels:
            return None
        same = self.name == variant.name and self.num_classes == variant.config.num_classes
        return variant if same else None

    @property
    def title(self) -> str:
        """The model and its version, for people."""
        return f"{self.name} {self.version}"

    @property
    def path(self) -> str:
        """The SavedModel, below the root."""
        return f"{self.name}/{self.version}"


@dataclasses.dataclass(frozen=True)
class ShardScore:
    """What a model answered on a shard.

    Attributes:
        images: images that were answered.
        top1: those whose best class was the right one.
        top5: those with the right one among the best five.
        classes: number of classes that the model has; 0 when no image was answered.
        confusion: the right class, the model's answer and the number of such images, for those that
            there are.
        undecodable: names and reasons of the files that are no image, or that the model refused.
        converted: names and formats of the images that it got a PNG of.
        left_out: names and reasons of the files that were not to be measured.
        seconds: what it took, without loading the model.
        error: why the shard could not be evaluated; empty when it was.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0
    classes: int = 0
    confusion: tuple[tuple[int, int, int], ...] = ()
    undecodable: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclasses.dataclass(frozen=True)
class EvaluateTask:
    """A model to evaluate on a shard.

    Attributes:
        model: the model.
        shard: the data.
        part: tasks of a model with the same number go to one worker, which loads the model once.
    """

    model: ServedModel
    shard: DataShard
    part: int = 0


def score_name(task: EvaluateTask) -> str:
    """Name of the object that keeps a task's figures."""
    model = f"{task.model.name}-{task.model.version}-{task.model.digest[:16]}"
    return f"shards/{model}/{task.shard.identity[:32]}.json"


def write_score(area: Area, task: EvaluateTask, score: ShardScore) -> None:
    """Keeps a task's figures. The object is there whole or not at all."""
    content = {
        "model": task.model.digest,
        "shard": task.shard.identity,
        "shard_name": task.shard.name,
        "score": dataclasses.asdict(score),
    }
    # A runner may do a task twice at once; the objects are the same but for the seconds.
    area.write(score_name(task), json.dumps(content, indent=1).encode())


def read_score(area: Area, task: EvaluateTask) -> ShardScore | None:
    """A task's figures, or None when there are none of this model on this data."""
    found = area.read(score_name(task))
    if found is None:
        return None
    try:
        content = json.loads(found)
        if (content["model"], content["shard"]) != (task.model.digest, task.shard.identity):
            return None
        score = content["score"]
        names = ("undecodable", "converted", "left_out")
        # Figures from before there was a confusion matrix lack it, and are taken for damaged.
        confusion = tuple((right, found, images) for right, found, images in score["confusion"])
        lists = {name: tuple(score[name]) for name in names}
        return ShardScore(**{**score, **lists, "confusion": confusion})
    except (ValueError, KeyError, TypeError):
        return None  # Damaged since: the shard is done again.
