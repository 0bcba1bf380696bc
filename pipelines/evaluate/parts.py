"""How an evaluation is divided among workers."""

from collections.abc import Sequence

from ..data.labelled import FILES_PER_SHARD, DataShard
from .scores import EvaluateTask, ServedModel

PART_GIGAFLOPS = 24_000.0
"""Multiply-adds of a part, in thousands of millions: five minutes of two cores that do 80 a second.

A part is one worker's, with one load of the model. A shard is never divided.
"""

LEAST_PARTS = 32
"""So many parts a model has where there are as many shards: small models, too, use many workers."""


def tasks_of(
    work: Sequence[tuple[ServedModel, Sequence[DataShard]]],
) -> list[EvaluateTask]:
    """Every model on each of its shards, the models that take longest first.

    The parts of a model have the same number of shards, but for the last.
    """
    tasks = []
    for model, shards in sorted(work, key=lambda entry: entry[0].gigaflops, reverse=True):
        # Of records nobody knows how many there are before they are read.
        images = max([len(shard.files) for shard in shards if shard.files], default=FILES_PER_SHARD)
        long_enough = int(PART_GIGAFLOPS / (model.gigaflops * images))
        in_part = max(1, min(long_enough, len(shards) // LEAST_PARTS))
        tasks += [
            EvaluateTask(model, shard, number // in_part) for number, shard in enumerate(shards)
        ]
    return tasks
