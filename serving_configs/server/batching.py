"""Batching parameters, computed from a model's latency and memory.

The text proto is TF Serving's `BatchingParameters` (`session_bundle_config.proto`). With
`--enable_per_model_batching_parameters` a server reads each model's file in the version's root, and
only the number of threads from the common file.
"""

import dataclasses
from collections.abc import Sequence

from ..tree.latency import LatencyProfile
from ..tree.paths import VERSION_BATCHING

LATENCY_BUDGET = 0.5
"""Seconds that a full batch may take: its last request waits for so long."""

MEMORY_BUDGET = 2**30
"""Bytes that a full batch may take beside the weights."""

LARGEST_BATCH = 32
"""More images in a batch gain nothing on processors, and each size needs a warm-up."""

LARGEST_REQUEST = 64
"""Images of a request that a server takes: more than a batch's are split."""

QUEUE_SECONDS = 10.0
"""Seconds of work that may wait in a queue before a server answers UNAVAILABLE."""

_LONGEST_WAIT = 0.005
_SHARE_OF_LATENCY = 0.05


@dataclasses.dataclass(frozen=True)
class Batching:
    """Batching parameters; the names are TF Serving's.

    Attributes:
        sizes: of the batches that are run, increasing.
        batch_timeout_micros: microseconds for which a batch waits for more images.
        max_enqueued_batches: batches in a queue.
    """

    sizes: tuple[int, ...]
    batch_timeout_micros: int
    max_enqueued_batches: int

    @property
    def max_execution_batch_size(self) -> int:
        """Images of the largest batch that is run."""
        return self.sizes[-1]

    @property
    def max_batch_size(self) -> int:
        """Images of the largest request: all of its batches have to find room in the queue."""
        room = self.max_enqueued_batches * self.max_execution_batch_size
        return max(self.max_execution_batch_size, min(LARGEST_REQUEST, room))

    def as_text(self) -> str:
        """The text proto."""
        lines = [
            f"max_batch_size {{ value: {self.max_batch_size} }}",
            f"batch_timeout_micros {{ value: {self.batch_timeout_micros} }}",
            f"max_enqueued_batches {{ value: {self.max_enqueued_batches} }}",
            *(f"allowed_batch_sizes: {size}" for size in self.sizes),
        ]
        if self.max_batch_size > self.max_execution_batch_size:
            lines += [
                # TF Serving wants the last one to be the largest request, but runs no such batch.
                f"allowed_batch_sizes: {self.max_batch_size}",
                "enable_large_batch_splitting { value: true }",
                f"max_execution_batch_size {{ value: {self.max_execution_batch_size} }}",
            ]
        return "\n".join(lines) + "\n"


def batching_for(measured: LatencyProfile) -> Batching:
    """The parameters for a model.

    The largest batch is the largest power of two within `LATENCY_BUDGET`, `MEMORY_BUDGET` and
    `LARGEST_BATCH`. Batches have the powers of two up to it as sizes, so that padding at most
    doubles the work. A request of more images is split. A batch waits a twentieth of one image's
    latency, at most 5 ms: too short for clients of an idle server to notice.
    """
    sizes = [1]
    while (size := 2 * sizes[-1]) <= LARGEST_BATCH:
        if measured.predicted(size) > LATENCY_BUDGET:
            break
        if size * measured.memory_per_image > MEMORY_BUDGET:
            break
        sizes.append(size)
    wait = min(_LONGEST_WAIT, _SHARE_OF_LATENCY * measured.latency) if len(sizes) > 1 else 0.0
    full = max(measured.predicted(sizes[-1]), 1e-6)
    return Batching(
        sizes=tuple(sizes),
        batch_timeout_micros=round(1e6 * wait),
        max_enqueued_batches=min(100, max(1, int(QUEUE_SECONDS / full))),
    )


def smallest(models: Sequence[Batching]) -> Batching:
    """Parameters that suit all models, for a server with one set of them."""
    return Batching(
        sizes=min((m.sizes for m in models), key=len, default=(1,)),
        batch_timeout_micros=min((m.batch_timeout_micros for m in models), default=0),
        max_enqueued_batches=min((m.max_enqueued_batches for m in models), default=100),
    )


def common_parameters(models: Sequence[Batching]) -> str:
    """The text of the common file.

    It sets no number of threads: a server has as many as processors.
    """
    return (
        "# For all models. With --enable_per_model_batching_parameters only the threads are taken\n"
        f"# from here, and the rest from {VERSION_BATCHING} in each version.\n"
        'thread_pool_name { value: "batches" }\n' + smallest(models).as_text()
    )
