"""Beam's own workers on this machine."""

import multiprocessing

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions


def local_workers(options: PipelineOptions) -> int:
    """Processes that Beam's runner on this machine starts; those of other runners are elsewhere."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return 1
    # 0 is one for each processor.
    return int(direct.direct_num_workers) or multiprocessing.cpu_count()
