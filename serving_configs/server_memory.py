"""The memory that a server takes, by what was measured of servers of this project's models.

`python -m benchmarks.serving_memory` measures servers and holds this formula to them.
"""

from collections.abc import Iterable

from .published import PublishedModel

_MIB = 2**20
_BASE = 512 * _MIB
_WEIGHTS_FACTOR = 1.25


def server_memory(models: Iterable[tuple[PublishedModel, int]], batching: bool) -> int:
    """Bytes that a server takes at most, as the limit of a container.

    Args:
        models: each model with the number of its versions that are loaded at the same time.
        batching: whether the server joins requests to batches.
    """
    return _BASE + sum(_model_memory(model, versions) for model, versions in models)


def _model_memory(model: PublishedModel, versions: int) -> int:
    return 0
