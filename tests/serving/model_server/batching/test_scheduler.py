"""Queues and threads: which tasks are run together, in which turn, and what is refused."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.batching.scheduler import BatchScheduler, Task

# Longer than any test takes: a batch that is run was full, or its queue was closed.
NEVER = 3600 * 1_000_000


def task(*values: float) -> Task:
    return Task({"x": np.array(values, np.float32)}, len(values))


class Runs:
    """What batches there were, as the values in their tasks. A batch with `gate` in it waits."""

    def __init__(self) -> None:
        self.batches: list[list[list[float]]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()

    def __call__(self, tasks: list[Task]) -> None:
        batch = [task.feeds["x"].tolist() for task in tasks]
        if [-1.0] in batch:
            self.entered.set()
            assert self.gate.wait(60)
        self.batches.append(batch)
        for task in tasks:
            task.done.set()


def wait(*tasks: Task) -> None:
    for task in tasks:
        assert task.done.wait(60)


@pytest.fixture
def scheduler() -> Iterator[Callable[[int], BatchScheduler]]:
    made: list[BatchScheduler] = []

    def of(threads: int) -> BatchScheduler:
        made.append(BatchScheduler(threads, "test_batches"))
        return made[-1]

    yield of
    assert all([one.stop(60) for one in made])
    assert not [t for t in threading.enumerate() if t.name.startswith("test_batches_")]


Schedulers = Callable[[int], BatchScheduler]


def occupied(one: BatchScheduler) -> Runs:
    """The only thread is in a batch of a queue of its own until the gate is opened."""
    runs = Runs()
    one.add_queue(BatchingParameters(), runs).schedule(task(-1))
    assert runs.entered.wait(60)
    return runs


def splitting(size: int, execution_size: int, **more: Any) -> BatchingParameters:
    return BatchingParameters(
        max_batch_size=size,
        max_execution_batch_size=execution_size,
        enable_large_batch_splitting=True,
        **more,
    )


def test_a_full_batch_does_not_wait(scheduler: Schedulers) -> None:
    runs = Runs()
    queue = scheduler(2).add_queue(BatchingParameters(3, NEVER), runs)
    tasks = [queue.schedule(task(*values))[0] for values in [(1,), (2, 3)]]
    wait(*tasks)
    assert runs.batches == [[[1], [2, 3]]]


def test_a_batch_that_is_not_full_waits_its_time(scheduler: Schedulers) -> None:
    runs = Runs()
    queue = scheduler(2).add_queue(BatchingParameters(3, 200_000), runs)
    start = time.monotonic()
    wait(*queue.schedule(task(1)))
    assert time.monotonic() - start >= 0.2
    assert runs.batches == [[[1]]]


def test_what_comes_while_the_threads_are_busy_is_a_batch(scheduler: Schedulers) -> None:
    one = scheduler(1)
    gate = occupied(one)
    runs = Runs()
    queue = one.add_queue(BatchingParameters(max_batch_size=3), runs)
    tasks = [queue.schedule(task(value))[0] for value in range(5)]
    gate.gate.set()
    wait(*tasks)
    assert runs.batches == [[[0], [1], [2]], [[3], [4]]]


def test_a_task_that_does_not_fit_closes_the_batch(scheduler: Schedulers) -> None:
    runs = Runs()
    queue = scheduler(1).add_queue(BatchingParameters(3, NEVER), runs)
    tasks = [queue.schedule(task(*values))[0] for values in [(1, 2), (3, 4, 5)]]
    wait(*tasks)
    assert runs.batches == [[[1, 2]], [[3, 4, 5]]]


def test_queues_take_turns(scheduler: Schedulers) -> None:
    one = scheduler(1)
    gate = occupied(one)
    runs = Runs()
    first, second = (one.add_queue(BatchingParameters(1), runs) for _ in range(2))
    tasks = [first.schedule(task(value))[0] for value in (1, 2, 3)]
    tasks += second.schedule(task(10))
    gate.gate.set()
    wait(*tasks)
    assert runs.batches == [[[1]], [[10]], [[2]], [[3]]]


def test_batches_run_at_the_same_time_in_as_many_threads(scheduler: Schedulers) -> None:
    one = scheduler(2)
    gate = occupied(one)
    runs = Runs()
    wait(*one.add_queue(BatchingParameters(), runs).schedule(task(1)))
    assert runs.batches == [[[1]]]
    assert not gate.batches
    gate.gate.set()


def test_the_batches_of_one_task_are_run_by_several_threads(scheduler: Schedulers) -> None:
    runs = Runs()
    first, second = scheduler(2).add_queue(splitting(4, 1), runs).schedule(task(-1, 1))
    wait(second)
    assert runs.batches == [[[1]]]
    runs.gate.set()
    wait(first)


def test_a_queue_that_is_full(scheduler: Schedulers) -> None:
    one = scheduler(1)
    gate = occupied(one)
    runs = Runs()
    queue = one.add_queue(BatchingParameters(2, NEVER, 2), runs)
    tasks = [queue.schedule(task(*values))[0] for values in [(1, 2), (3,)]]
    with pytest.raises(ServingError) as caught:
        queue.schedule(task(4, 5))
    assert str(caught.value) == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; "
        "currently 2 batches enqueued and max_enqueued_batches is 2"
    )
    # There is room for one more in the last batch.
    tasks += queue.schedule(task(6))
    gate.gate.set()
    wait(*tasks)
    assert runs.batches == [[[1, 2]], [[3], [6]]]


def test_a_task_that_is_too_large(scheduler: Schedulers) -> None:
    queue = scheduler(1).add_queue(BatchingParameters(2), Runs())
    with pytest.raises(ServingError) as caught:
        queue.schedule(task(1, 2, 3))
    assert str(caught.value) == (
        "INVALID_ARGUMENT: Task size 3 is larger than maximum input batch size 2"
    )


@pytest.mark.parametrize(
    ("waiting", "rows", "sizes"),
    [(0, 3, [3]), (0, 4, [4]), (0, 9, [4, 4, 1]), (1, 8, [3, 4, 1]), (3, 1, [1]), (4, 5, [4, 1])],
)
def test_large_tasks_are_split(
    waiting: int, rows: int, sizes: list[int], scheduler: Schedulers
) -> None:
    one = scheduler(1)
    gate = occupied(one)
    runs = Runs()
    queue = one.add_queue(splitting(10, 4), runs)
    tasks = queue.schedule(task(*range(100, 100 + waiting))) if waiting else []
    parts = queue.schedule(task(*range(rows)))
    assert [part.size for part in parts] == sizes
    gate.gate.set()
    wait(*tasks, *parts)
    # The rows are all there, in their order, and no batch is larger than it may be.
    values = [value for batch in runs.batches for values in batch for value in values]
    assert values == [*range(100, 100 + waiting), *range(rows)]
    assert max(sum(map(len, batch)) for batch in runs.batches) <= 4


def test_a_queue_that_splits_and_is_full(scheduler: Schedulers) -> None:
    one = scheduler(1)
    gate = occupied(one)
    queue = one.add_queue(splitting(10, 4, max_enqueued_batches=2), Runs())
    tasks = queue.schedule(task(1, 2, 3))
    with pytest.raises(ServingError) as caught:
        queue.schedule(task(*range(6)))
    assert str(caught.value) == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task "
        "size is 6 but scheduling capacity is only 5 (num_enqueued_batches=1, "
        "max_enqueued_batches=2, open_batch_size=3, max_execution_batch_size=4)"
    )
    tasks += queue.schedule(task(*range(5)))
    gate.gate.set()
    wait(*tasks)


def test_a_queue_that_is_removed_runs_what_it_has(scheduler: Schedulers) -> None:
    one = scheduler(1)
    runs = Runs()
    queue = one.add_queue(BatchingParameters(3, NEVER), runs)
    (waiting,) = queue.schedule(task(1))
    one.remove(queue)
    # It has not waited for more, and came back when that was done.
    assert waiting.done.is_set()
    assert runs.batches == [[[1]]]


def test_a_queue_is_removed_when_its_batch_has_been_run(scheduler: Schedulers) -> None:
    one = scheduler(1)
    runs = Runs()
    queue = one.add_queue(BatchingParameters(), runs)
    queue.schedule(task(-1))
    assert runs.entered.wait(60)
    removing = threading.Thread(target=one.remove, args=(queue,))
    removing.start()
    removing.join(0.2)
    assert removing.is_alive()
    runs.gate.set()
    removing.join(60)
    assert runs.batches == [[[-1]]]
