"""What is counted of a model on a shard of the data, and the files that keep it.

A shard's figures are on the disk as soon as it is done, so that a run that is killed goes on with
the shards it lacks. A file is named by what was evaluated on what: another version, or data that
changed, finds no file of its own.
"""

import dataclasses
import json
import pathlib

from serving_configs.tree.atomic import write_atomically

from ..data.labelled import DataShard


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A published classifier.

    Attributes:
        name: the model's name.
        version: its number.
        variant: name of the variant.
        path: the SavedModel.
        digest: of all its files that have a part in what it answers, SHA-256 in hexadecimal.
    """

    name: str
    version: int
    variant: str
    path: str
    digest: str


@dataclasses.dataclass(frozen=True)
class ShardScore:
    """What a model answered on a shard.

    Attributes:
        images: images that were answered.
        top1: those whose best class was the right one.
        top5: those with the right one among the best five.
        classes: number of classes that the model has; 0 when no image was answered.
        undecodable: names and reasons of the images that the model refused to decode.
        seconds: what it took, without loading the model.
        error: why the shard could not be evaluated; empty when it was.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0
    classes: int = 0
    undecodable: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclasses.dataclass(frozen=True)
class EvaluateTask:
    """A model to evaluate on a shard."""

    model: ServedModel
    shard: DataShard


def score_path(output: str, task: EvaluateTask) -> pathlib.Path:
    """Where a task's figures are kept."""
    model = f"{task.model.name}-{task.model.version}-{task.model.digest[:16]}"
    return pathlib.Path(output) / "shards" / model / f"{task.shard.identity[:32]}.json"


def write_score(output: str, task: EvaluateTask, score: ShardScore) -> None:
    """Keeps a task's figures. The file is there whole or not at all."""
    content = {
        "model": task.model.digest,
        "shard": task.shard.identity,
        "shard_name": task.shard.name,
        "score": dataclasses.asdict(score),
    }
    # A runner may do a task twice at once; the files are the same but for the seconds.
    write_atomically(score_path(output, task), json.dumps(content, indent=1))


def read_score(output: str, task: EvaluateTask) -> ShardScore | None:
    """A task's figures, or None when there are none of this model on this data."""
    try:
        content = json.loads(score_path(output, task).read_text(encoding="utf-8"))
        if (content["model"], content["shard"]) != (task.model.digest, task.shard.identity):
            return None
        score = content["score"]
        return ShardScore(**{**score, "undecodable": tuple(score["undecodable"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # Damaged since: the shard is done again.
