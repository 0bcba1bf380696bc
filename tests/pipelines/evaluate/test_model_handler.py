"""A worker has one model in memory at a time, and answers are counted as they are."""

import pathlib
import threading
import weakref

import pytest
import tensorflow as tf

from pipelines.data.labelled import DataShard
from pipelines.evaluate.model_handler import EvaluateModelHandler, LoadedClassifier
from pipelines.evaluate.scores import EvaluateTask, ServedModel
from tests.support.labelled_records import write_shard

pytestmark = pytest.mark.slow


class Length(tf.Module):
    """Its best class is the length of the image's bytes; two lengths are as good as each other."""

    def __init__(self, classes: int, signature: str = "bytes_logits", worst: float = 0.0) -> None:
        super().__init__()
        self._classes = classes
        self._worst = worst
        self.name_of_signature = signature

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def run(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.strings.length(image_bytes)
        tf.debugging.assert_positive(length, message="empty image")
        distance = tf.abs(tf.range(self._classes) - length[:, tf.newaxis])
        logits = -tf.cast(distance, tf.float32)
        return {"logits": tf.where(logits < -50, self._worst * logits + logits, logits)}


def save(path: pathlib.Path, module: Length) -> str:
    tf.saved_model.save(module, str(path), {module.name_of_signature: module.run})
    return str(path)


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> tuple[str, str]:
    return save(tmp_path / "ten" / "1", Length(10)), save(tmp_path / "twenty" / "1", Length(20))


def test_model_leaves_memory_before_another_one_is_loaded(paths, monkeypatch):
    loaded = LoadedClassifier()
    with loaded.use(paths[0]) as logits_of:
        assert logits_of([b"xxx"]).shape == (1, 10)
    del logits_of
    # Real models are full of cycles.
    loaded._model.cycle = [loaded._model]
    first = weakref.ref(loaded._model)
    load = tf.saved_model.load
    still_there = []

    def watched(path: str) -> object:
        still_there.append(first() is not None)
        return load(path)

    monkeypatch.setattr(tf.saved_model, "load", watched)
    with loaded.use(paths[0]):
        assert loaded._model is first()
    with loaded.use(paths[1]) as logits_of:
        assert logits_of([b"xxx", b"x"]).shape == (2, 20)
    assert still_there == [False]


def test_thread_that_wants_another_model_waits_for_those_that_use_this_one(paths):
    loaded = LoadedClassifier()
    events: list[str] = []
    started = threading.Event()

    def other() -> None:
        started.set()
        with loaded.use(paths[1]):
            events.append("other")

    thread = threading.Thread(target=other)
    with loaded.use(paths[0]) as logits_of, loaded.use(paths[0]):
        thread.start()
        started.wait()
        thread.join(0.3)
        assert logits_of([b"x"]).shape == (1, 10)
        events.append("first")
    thread.join()
    assert events == ["first", "other"]


def task_on(path: str, images: list[tuple[bytes, int]], root: pathlib.Path) -> EvaluateTask:
    write_shard(root / "shard", images)
    base = pathlib.Path(path).parent
    return EvaluateTask(
        ServedModel(base.name, 1, "m", str(base.parent), "0"),
        DataShard("shard", "0", str(root / "shard")),
    )


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_undecodable_images_are_found_in_batches_of_any_size(paths, tmp_path, batch_size):
    images = [(b"x" * length, length) for length in (1, 2, 3, 4, 5, 6, 7)]
    images[2:2] = [(b"", 0)]
    images[5:5] = [(b"", 0), (b"", 0)]
    handler = EvaluateModelHandler(batch_size)
    (found,) = handler.run_inference([task_on(paths[0], images, tmp_path)], handler.load_model())
    score = found[1]
    assert (score.images, score.top1, score.top5, score.error) == (7, 7, 7, "")
    assert [line.split(":")[0] for line in score.undecodable] == [
        f"shard-{number}.png" for number in (2, 5, 6)
    ]
    assert all("empty image" in line for line in score.undecodable)


def test_of_equal_logits_the_lower_class_comes_first(paths, tmp_path):
    # For 5 bytes the order is 5, 4, 6, 3, 7, 2, 8 and so on.
    images = [(b"xxxxx", label) for label in (5, 4, 6, 7, 2, 8)]
    handler = EvaluateModelHandler(4)
    ((_, score),) = handler.run_inference(
        [task_on(paths[0], images, tmp_path)], handler.load_model()
    )
    assert (score.images, score.top1, score.top5) == (6, 1, 4)


@pytest.mark.parametrize(
    ("module", "images", "message"),
    [
        (Length(10), [(b"x", 10)], "has label 10; the model has the classes 0 to 9"),
        (Length(100, worst=float("inf")), [(b"x", 1)], "are not finite"),
        (Length(10, signature="other"), [(b"x", 1)], "has no signature bytes_logits"),
    ],
)
def test_what_cannot_be_counted_is_an_error_of_the_task(module, images, message, tmp_path):
    path = save(tmp_path / "model" / "1", module)
    handler = EvaluateModelHandler(4)
    ((_, score),) = handler.run_inference([task_on(path, images, tmp_path)], handler.load_model())
    assert message in score.error
    assert score.images == 0


def test_handler_has_a_shard_in_each_batch():
    assert EvaluateModelHandler(4).batch_elements_kwargs() == {
        "min_batch_size": 1,
        "max_batch_size": 1,
    }
