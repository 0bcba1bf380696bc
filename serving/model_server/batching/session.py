"""Joins requests of the same inputs and outputs to batches before they reach the session.

As in TF Serving, a run that fails fails for every request of its batch. So an image of one client
that cannot be decoded is an error for other clients too.

Source: `batching_session.cc` and `bundle_factory_util.cc` of tensorflow/serving.
"""

import logging
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence

from tensorflow.core.protobuf import meta_graph_pb2

from serving_configs.tree.paths import VERSION_BATCHING

from ...errors import Code, ServingError, error_from
from ...tensors import Array
from ..servables.servable import Servable
from .parameters import BatchingParameters, read_batching_parameters
from .scheduler import BatchScheduler, Queue, Task
from .tensors import count_rows, join, rejoin, split

_log = logging.getLogger(__name__)


class Batching:
    """The batching of a server: its threads, and the wrappers of versions.

    Args:
        common: the server's parameters.
        per_model: uses each version's own parameters, and only the threads of `common`. A version
            without parameters is not batched.

    Raises:
        ServingError: INVALID_ARGUMENT, the parameters are wrong.
    """

    def __init__(self, common: BatchingParameters, per_model: bool = False) -> None:
        common.check_threads()
        if not per_model:
            common.check_queue()
        self._common = common
        self._per_model = per_model
        self._scheduler = BatchScheduler(common.num_batch_threads, common.thread_pool_name)

    def wrap(self, servable: Servable, directory: pathlib.Path) -> Servable:
        """Wraps a version with batching; a `Wrapper` of `serving.model_server.loading`.

        Raises:
            ServingError: the version's own parameters are wrong.
        """
        if not self._per_model:
            return BatchedServable(servable, self._common, self._scheduler)
        path = directory / VERSION_BATCHING
        if not path.exists():
            return servable
        return BatchedServable(servable, read_batching_parameters(path), self._scheduler)

    def stop(self, timeout: float) -> bool:
        """Ends the threads; all versions have to be closed before.

        Returns:
            Whether they ended within `timeout` seconds.
        """
        return self._scheduler.stop(timeout)


class BatchedServable:
    """A `Servable` that joins runs to batches for another one.

    Every set of fed and fetched tensors has its own queue. A run without rows bypasses the queues.
    In TF Serving it waits for another run and fails together with that.

    Args:
        servable: runs the batches; closed with this one.
        parameters: parameters of the batches.
        scheduler: runs the batches.

    Raises:
        ServingError: INVALID_ARGUMENT, the parameters are wrong.
    """

    def __init__(
        self, servable: Servable, parameters: BatchingParameters, scheduler: BatchScheduler
    ) -> None:
        parameters.check_queue()
        self._servable = servable
        self._parameters = parameters
        self._scheduler = scheduler
        self._queues: dict[tuple[frozenset[str], frozenset[str]], Queue] = {}
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        return self._servable.signatures

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None = None
    ) -> list[Array]:
        rows = count_rows(feeds)
        if not rows:
            return self._servable.run(feeds, fetches, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        tasks = self._queue(feeds, fetches).schedule(Task(feeds, rows, deadline))
        for task in tasks:
            task.done.wait()
        parts = []
        for task in tasks:
            if task.error is not None:
                # A new error for each request, because several threads raise it.
                raise ServingError(task.error.code, task.error.message)
            assert task.values is not None
            parts.append(task.values)
        by_name = dict(zip(sorted(set(fetches)), rejoin(parts), strict=True))
        return [by_name[name] for name in fetches]

    def close(self) -> None:
        with self._lock:
            queues = list(self._queues.values())
            self._queues.clear()
        for queue in queues:
            self._scheduler.remove(queue)
        self._servable.close()

    def _queue(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> Queue:
        key = (frozenset(feeds), frozenset(fetches))
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                # Sorted, because the session keeps an executor for each order of fetches.
                ordered = sorted(key[1])
                queue = self._queues[key] = self._scheduler.add_queue(
                    self._parameters, lambda tasks: self._process(tasks, ordered)
                )
            return queue

    def _process(self, tasks: Sequence[Task], fetches: Sequence[str]) -> None:
        """Runs a batch, in a thread of the scheduler."""
        try:
            for task, values in zip(tasks, self._run_batch(tasks, fetches), strict=True):
                task.values = values
        except Exception as failure:
            if not isinstance(failure, ServingError):
                _log.exception("a batch failed")
            for task in tasks:
                task.error = error_from(failure)
        finally:
            for task in tasks:
                task.done.set()

    def _run_batch(self, tasks: Sequence[Task], fetches: Sequence[str]) -> list[list[Array]]:
        sizes = [task.size for task in tasks]
        padding = self._parameters.padded_size(sum(sizes)) - sum(sizes)
        timeout = _time_left([task.deadline for task in tasks])
        feeds = join(
            [task.feeds for task in tasks], padding, self._parameters.pad_variable_length_inputs
        )
        return split(self._servable.run(feeds, fetches, timeout), sizes, padding)


def _time_left(deadlines: Sequence[float | None]) -> float | None:
    """Seconds for a batch: those of the request with the latest deadline.

    Raises:
        ServingError: RESOURCE_EXHAUSTED, all deadlines have passed.
    """
    latest = 0.0
    for deadline in deadlines:
        if deadline is None:
            return None
        latest = max(latest, deadline)
    left = latest - time.monotonic()
    if left <= 0:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
        )
    return left
