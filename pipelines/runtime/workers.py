"""Beam's own workers on this machine."""

import itertools
import multiprocessing
from collections.abc import Iterable, Mapping
from typing import TypeVar

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from export.variants import Variant

_Key = TypeVar("_Key")


def local_workers(options: PipelineOptions) -> int:
    """Processes that Beam's runner on this machine starts; those of other runners are elsewhere."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return 1
    # 0 is one for each processor.
    return int(direct.direct_num_workers) or multiprocessing.cpu_count()


def longest_first(variants: Iterable[Variant]) -> list[Variant]:
    """In the order of their multiply-adds, the most first.

    Beam's runner on this machine gives its workers a stage's elements in turn: so the two longest,
    which take half of a run of all ten variants, go to two workers.
    """
    return sorted(variants, key=lambda variant: variant.flops_g, reverse=True)


def dealt_evenly(costs: Mapping[_Key, float], workers: int) -> list[_Key | None]:
    """An order of work in which workers that take it in turn have about as much of it each.

    The next longest piece goes to the worker with the least so far. Workers have different numbers
    of pieces then, so that there are turns without work.

    Args:
        costs: piece of work -> how long it takes, in any unit.
        workers: how many take it in turn.

    Returns:
        The pieces, each worker's longest first; None where a worker has none.
    """
    hands: list[list[_Key]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for piece in sorted(costs, key=lambda piece: -costs[piece]):
        least = loads.index(min(loads))
        hands[least].append(piece)
        loads[least] += costs[piece]
    rounds = itertools.zip_longest(*hands)
    return [piece for turn in rounds for piece in turn]
