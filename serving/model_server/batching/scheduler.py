"""Queues that join tasks to batches, and the threads that run the batches.

A queue adds tasks to its open batch. The batch is run when it is full or has waited long enough; a
full batch waits while every thread is busy. The threads serve all queues in turn.

Source: `shared_batch_scheduler.h` in tensorflow/core/kernels/batching_util.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping

from ...errors import Code, ServingError, invalid_argument
from ...tensors import Array
from .parameters import BatchingParameters


@dataclasses.dataclass(eq=False, slots=True)
class Task:
    """A request, or a part of one, in a queue.

    Attributes:
        feeds: name of a tensor of the graph -> its value, with `size` rows.
        size: number of rows; at least one.
        deadline: time of `time.monotonic`; None is no deadline.
        done: set when `values` or `error` is.
        values: the outputs for these rows.
        error: why the run failed.
    """

    feeds: Mapping[str, Array]
    size: int
    deadline: float | None = None
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    values: list[Array] | None = None
    error: ServingError | None = None

    def part(self, start: int, stop: int) -> "Task":
        """A task of some of the rows."""
        feeds = {name: array[start:stop] for name, array in self.feeds.items()}
        return Task(feeds, stop - start, self.deadline)


@dataclasses.dataclass(eq=False, slots=True)
class _Batch:
    tasks: list[Task] = dataclasses.field(default_factory=list)
    size: int = 0
    # Time of the first task.
    opened: float = 0.0


class Queue:
    """Tasks that can be joined. Made by `BatchScheduler.add_queue`.

    Args:
        parameters: sizes, waiting time and length.
        process: runs a batch and sets all of its tasks done; raises nothing.
        changed: the condition of the scheduler, which guards all queues.
    """

    def __init__(
        self,
        parameters: BatchingParameters,
        process: Callable[[list[Task]], None],
        changed: threading.Condition,
    ) -> None:
        self.process = process
        self._parameters = parameters
        self._limit = parameters.execution_size
        self._timeout = parameters.batch_timeout_micros / 1_000_000
        self._changed = changed
        # The last batch is open, the others are closed.
        self._batches: collections.deque[_Batch] = collections.deque([_Batch()])
        self._running = 0
        self._closed = False

    def schedule(self, task: Task) -> list[Task]:
        """Adds a task.

        Returns:
            The tasks to wait for: the task, or its parts in order.

        Raises:
            ServingError: INVALID_ARGUMENT, the task is too large; UNAVAILABLE, the queue is full.
        """
        with self._changed:
            assert not self._closed, "closed"
            self._check_capacity(task.size)
            tasks = self._parts(task)
            for part in tasks:
                if self._batches[-1].size + part.size > self._limit:
                    self._batches.append(_Batch())
                batch = self._batches[-1]
                if not batch.tasks:
                    batch.opened = time.monotonic()
                batch.tasks.append(part)
                batch.size += part.size
            self._changed.notify()
        return tasks

    def take(self, now: float) -> list[Task] | None:
        """Takes the tasks of a batch that is due, oldest first. The caller holds the lock."""
        due = self.due()
        if due is None or due > now:
            return None
        if len(self._batches) == 1:
            self._batches.append(_Batch())
        self._running += 1
        return self._batches.popleft().tasks

    def due(self) -> float | None:
        """The time at which a batch is due; None without a task. The caller holds the lock."""
        first = self._batches[0]
        if not first.tasks:
            return None
        if self._closed or len(self._batches) > 1 or first.size >= self._limit:
            return first.opened
        return first.opened + self._timeout

    def finished(self) -> None:
        """Notes that a taken batch has been run. The caller holds the lock."""
        self._running -= 1
        if self._closed:
            self._changed.notify_all()

    def drain(self) -> None:
        """Refuses new tasks and waits until the others are done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running and not self._batches[0].tasks)

    def _check_capacity(self, size: int) -> None:
        parameters, waiting, room = self._parameters, len(self._batches), self._room()
        if size > parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size "
                f"{parameters.max_batch_size}"
            )
        full = "The batch scheduling queue to which this task was submitted is full; "
        if parameters.enable_large_batch_splitting:
            capacity = (parameters.queue_limit - waiting) * self._limit + room
            if size > capacity:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {size} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={waiting}, "
                    f"max_enqueued_batches={parameters.queue_limit}, "
                    f"open_batch_size={self._batches[-1].size}, "
                    f"max_execution_batch_size={self._limit})",
                )
        elif size > room and waiting >= parameters.queue_limit:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{full}currently {waiting} batches enqueued and max_enqueued_batches is "
                f"{parameters.queue_limit}",
            )

    def _parts(self, task: Task) -> list[Task]:
        """Splits a task: what the open batch has room for, then full batches."""
        if not self._parameters.enable_large_batch_splitting or task.size <= self._room():
            return [task]
        starts = [0, *range(self._room() or self._limit, task.size, self._limit)]
        stops = [*starts[1:], task.size]
        return [task.part(start, stop) for start, stop in zip(starts, stops, strict=True)]

    def _room(self) -> int:
        return self._limit - self._batches[-1].size


class BatchScheduler:
    """The threads that run the batches of all queues, one queue after the other.

    Args:
        threads: number of batches run at a time.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._queues: collections.deque[Queue] = collections.deque()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add_queue(
        self, parameters: BatchingParameters, process: Callable[[list[Task]], None]
    ) -> Queue:
        """Adds a queue; the arguments are those of `Queue`."""
        queue = Queue(parameters, process, self._changed)
        with self._changed:
            self._queues.append(queue)
        return queue

    def remove(self, queue: Queue) -> None:
        """Waits until all tasks of a queue are done, and removes it."""
        queue.drain()
        with self._changed:
            self._queues.remove(queue)

    def stop(self, timeout: float) -> bool:
        """Ends the threads once no batch is due.

        Returns:
            Whether they ended within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        # A call for each batch, so that a waiting thread keeps no arrays of the last one.
        while self._run_one():
            pass

    def _run_one(self) -> bool:
        """Waits for a batch and runs it; False when the scheduler stops."""
        chosen = self._next()
        if chosen is None:
            return False
        queue, tasks = chosen
        queue.process(tasks)
        with self._changed:
            queue.finished()
        return True

    def _next(self) -> tuple[Queue, list[Task]] | None:
        """Waits for a batch that is due; None when the scheduler stops."""
        with self._changed:
            while True:
                now = time.monotonic()
                for queue in self._queues:
                    tasks = queue.take(now)
                    if tasks is not None:
                        # The other queues are next.
                        self._queues.remove(queue)
                        self._queues.append(queue)
                        if self._earliest() is not None:
                            # Another thread waits for the next batch.
                            self._changed.notify()
                        return queue, tasks
                if self._stopping:
                    return None
                due = self._earliest()
                self._changed.wait(None if due is None else max(0.0, due - now))

    def _earliest(self) -> float | None:
        """The time at which the next batch is due; None without a task."""
        times = (queue.due() for queue in self._queues)
        return min((due for due in times if due is not None), default=None)
