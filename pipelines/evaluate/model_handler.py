"""Running SavedModels in Beam's RunInference.

Beam's own handlers for TensorFlow call `tf.keras.models.load_model`, which reads no SavedModel
any more since Keras 3, and hold one model each. This one takes the model of each element, and a
worker has one in memory at a time.
"""

import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from export.errors import one_line
from export.memory import release_memory
from signatures.addresses import is_url
from signatures.program import disk_full

from ..runtime.files import set_filesystem_options
from ..runtime.progress import ImageCounter, Objects, Step
from ..runtime.quiet import load_tensorflow
from ..runtime.steps import COUNTERS
from ..store.base import open_store
from ..store.host_cache import HostCache
from .scores import EvaluateTask, ServedModel, ShardScore
from .scoring import Array, BytesLogits, EvaluationError, score_shard

SIGNATURE = "bytes_logits"


class LoadedClassifier:
    """The SavedModel that a worker has in memory: the last one that a thread used.

    Threads of a worker share it. One that needs another model waits until no thread uses the
    loaded one.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._users = 0
        self._path: str | None = None
        self._model: Any = None

    @contextlib.contextmanager
    def use(self, path: str) -> Iterator[BytesLogits]:
        """The signature of a model, which stays in memory at least as long as the block runs.

        Args:
            path: directory of the SavedModel.

        Raises:
            OSError, ValueError, tf.errors.OpError: it can't be loaded.
            EvaluationError: it has no such signature.
        """
        with self._free:
            self._free.wait_for(lambda: self._path == path or not self._users)
            if self._path != path:
                self._load(path)
            model = self._model
            self._users += 1
        try:
            yield _bytes_logits(model)
        finally:
            del model
            with self._free:
                self._users -= 1
                self._free.notify_all()

    def _load(self, path: str) -> None:
        import tensorflow as tf

        self._path = self._model = None
        # A loaded model is full of cycles: it would stay beside the next one.
        release_memory()
        self._model = tf.saved_model.load(path)
        self._path = path


def _bytes_logits(model: Any) -> BytesLogits:
    import tensorflow as tf

    if SIGNATURE not in model.signatures:
        raise EvaluationError(f"the SavedModel has no signature {SIGNATURE}")
    function = model.signatures[SIGNATURE]

    def run(encoded: Sequence[bytes]) -> Array:
        logits: Array = np.asarray(function(image_bytes=tf.constant(list(encoded)))["logits"])
        return logits

    return run


class EvaluateModelHandler(
    ModelHandler[EvaluateTask, tuple[EvaluateTask, ShardScore], LoadedClassifier]
):
    """`EvaluateTask` -> `(EvaluateTask, ShardScore)`.

    An element is a whole shard, and its images are read where the model is: they never travel
    between steps, and a shard's figures can be kept as soon as it is done.

    Args:
        batch_size: images of a request.
        filesystem: Beam's options, without which a worker cannot open the store.
        run: where the images that are done are reported; None for nowhere.
    """

    def __init__(
        self,
        batch_size: int,
        filesystem: dict[str, Any] | None = None,
        run: Objects | None = None,
    ) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._batch_size = batch_size
        self._run = run
        self._filesystem = filesystem or {}

    def load_model(self) -> LoadedClassifier:
        set_filesystem_options(self._filesystem)
        load_tensorflow()
        return LoadedClassifier()

    def run_inference(
        self,
        batch: Sequence[EvaluateTask],
        model: LoadedClassifier,
        inference_args: dict[str, Any] | None = None,
    ) -> list[tuple[EvaluateTask, ShardScore]]:
        return [(task, self._evaluate(task, model)) for task in batch]

    def _evaluate(self, task: EvaluateTask, model: LoadedClassifier) -> ShardScore:
        try:
            with model.use(str(self._directory(task.model))) as logits_of:
                return score_shard(logits_of, task.shard, self._batch_size, self._counter(task))
        except EvaluationError as error:
            return ShardScore(error=str(error))
        except Exception as error:  # The other models and shards are evaluated all the same.
            if disk_full(error):
                raise  # But on the same disk.
            return ShardScore(error=one_line(error))

    def _counter(self, task: EvaluateTask) -> Callable[[int], None]:
        if self._run is None:
            return lambda images: None
        shard = task.shard
        step = Step("evaluate", task.model.title, shard.name, 0.0, all_images=len(shard.files))
        return ImageCounter(self._run, step)

    def _directory(self, model: ServedModel) -> pathlib.Path:
        """The SavedModel on this worker's disk."""
        if not is_url(model.root):
            return pathlib.Path(model.root, model.path)
        name = f"published/{model.digest}/{model.version}"
        return HostCache().fetch(open_store(model.root), model.path, model.files, name)

    def get_num_bytes(self, batch: Sequence[EvaluateTask]) -> int:
        return 0  # What travels is names.

    def get_metrics_namespace(self) -> str:
        return COUNTERS
