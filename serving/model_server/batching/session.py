"""Requests of the same inputs and outputs, joined to batches before they reach the session.

As in TF Serving, what is joined stands or falls together: a run that fails, fails for every request
of the batch, so one client's image that cannot be decoded is another client's error too.

Source: `batching_session.cc` and `bundle_factory_util.cc` of tensorflow/serving.
"""

import logging
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence

from tensorflow.core.protobuf import meta_graph_pb2

from serving_configs.server.batching import FILE_IN_VERSION

from ...errors import Code, ServingError, error_from
from ...tensors import Array
from ..servables.servable import Servable
from .parameters import BatchingParameters, read_batching_parameters
from .scheduler import BatchScheduler, Queue, Task
from .tensors import count_rows, join, rejoin, split

_log = logging.getLogger(__name__)


class Batching:
    """The batching of a server: its threads, and what it puts in front of versions.

    Args:
        common: the server's parameters.
        per_model: each version brings its own parameters, and one without is not batched; of
            `common` the threads count alone.

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
        """A version with batching in front of it; a `Wrapper` of `serving.model_server.loading`.

        Raises:
            ServingError: the parameters that it brings are wrong.
        """
        if not self._per_model:
            return BatchedServable(servable, self._common, self._scheduler)
        path = directory / FILE_IN_VERSION
        if not path.exists():
            return servable
        return BatchedServable(servable, read_batching_parameters(path), self._scheduler)

    def stop(self, timeout: float) -> bool:
        """Ends the threads, when all versions are closed.

        Returns:
            Whether they ended within `timeout` seconds.
        """
        return self._scheduler.stop(timeout)


class BatchedServable:
    """A `Servable` that joins runs before it hands them to another one.

    Every set of fed and fetched tensors has a queue of its own. A run without any rows goes past
    the queues and is answered at once. TF Serving lets it wait until another one comes, and fail
    with that one, which nobody can want.

    Args:
        servable: runs the batches; closed with this one.
        parameters: of the batches.
        scheduler: runs them.

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
                # Raised in the threads of several requests, so each needs one of its own.
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
                # In one order for all, as every order is one more executor in the session.
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
    """Seconds for a batch: as many as the request that can wait longest has.

    Raises:
        ServingError: RESOURCE_EXHAUSTED, if none of the requests has any.
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
