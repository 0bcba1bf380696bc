"""The parts of an evaluation are even, and as many as the work is worth."""

import collections
import dataclasses

import pytest

from pipelines.data.image_folder import ImageFile
from pipelines.data.labelled import DataShard
from pipelines.evaluate.parts import tasks_of
from pipelines.evaluate.report import evaluation_of, evaluation_table
from pipelines.evaluate.scores import ServedModel, ShardScore

FILES = tuple(ImageFile(str(i), 0) for i in range(500))
IMAGENET = [DataShard(str(i), str(i), "/imagenet", FILES) for i in range(100)]


def model(name: str, gigaflops: float) -> ServedModel:
    return ServedModel(name, 1, name, "/serving", "0", (), gigaflops)


LARGE, SMALL = model("cait_m48_448", 279.0), model("cait_xxs24_224", 2.3)


@pytest.mark.parametrize(
    ("one", "shards", "parts"),
    [
        (LARGE, 100, {1}),
        # Several shards for each load of the model, but still for many workers.
        (SMALL, 100, {3, 1}),
        (SMALL, 1000, {20}),
        (SMALL, 5, {1}),
    ],
)
def test_shards_of_a_part(one: ServedModel, shards: int, parts: set[int]) -> None:
    tasks = tasks_of([(one, (IMAGENET * 10)[:shards])])
    assert len(tasks) == shards
    sizes = collections.Counter(task.part for task in tasks)
    assert set(sizes.values()) == parts
    assert len([size for size in sizes.values() if size < max(parts)]) <= 1


def test_models_that_take_longest_come_first() -> None:
    tasks = tasks_of([(SMALL, IMAGENET), (LARGE, IMAGENET)])
    assert [task.model.name for task in tasks] == [LARGE.name] * 100 + [SMALL.name] * 100


def test_figures_of_other_weights_stand_beside_no_accuracy() -> None:
    scores = [ShardScore(classes=1000, images=10, top1=5, top5=9)]
    for published, trained, wanted in (
        (True, True, 78.524),
        (False, True, None),
        (True, False, None),
    ):
        served = dataclasses.replace(SMALL, has_published_accuracy=published, trained=trained)
        assert evaluation_of(served, scores, ())["top1"]["published"] == wanted


@pytest.mark.parametrize(("classes", "percent"), [(5, None), (6, 90.0)])
def test_top_5_of_five_classes_says_nothing(classes: int, percent: float | None) -> None:
    served = dataclasses.replace(SMALL, num_classes=classes)
    entry = evaluation_of(served, [ShardScore(classes=classes, images=10, top1=5, top5=9)], ())
    assert (entry["top1"]["percent"], entry["top5"]["percent"]) == (50.0, percent)
    assert evaluation_table([entry])[1][5] == ("-" if percent is None else "90.000")
