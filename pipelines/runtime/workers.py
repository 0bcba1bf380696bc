"""Beam's own workers on this machine."""

import multiprocessing
from collections.abc import Iterable

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from export.variants import Variant


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
