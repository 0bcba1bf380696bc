"""The memory that a server takes, by what was measured of servers of this project's models.

`python -m benchmarks.serving_memory` measures servers and holds this formula to them; its table is
in `docs/benchmarks.md`.
"""

from collections.abc import Sequence

from ..tree.published import PublishedModel
from .batching import batching_for

_MIB = 2**20

# A server without a model. The development server took 602 MiB, a real one about 200.
_BASE = 640 * _MIB
# Weights, and what is read of them beside them while a version loads.
_WEIGHTS = 1.25
# The graph of a version, its functions for each signature, and what its warm-up leaves, by block:
# 160 to 240 MiB for the 26 blocks of cait_xxs24_224 and cait_s24_384, up to 300 on a real server.
_BLOCK = 10 * _MIB
# Requests that are computed at the same time, each as large as the largest of the warm-up.
_REQUESTS = 4


def server_memory(models: Sequence[tuple[PublishedModel, int]]) -> int:
    """Bytes that a server takes at most, for the limit of a container.

    Args:
        models: each model with the number of its versions that are loaded at the same time.
    """
    versions = sum(number * _version_memory(model) for model, number in models)
    return _BASE + versions + _REQUESTS * max(_request_memory(model) for model, _ in models)


def _version_memory(model: PublishedModel) -> int:
    blocks = model.geometry.sa_blocks + model.geometry.ca_blocks
    return int(_WEIGHTS * 4 * model.parameters) + blocks * _BLOCK


def _request_memory(model: PublishedModel) -> int:
    if model.measured is None:
        return 0
    # Also without batching, a client may send as many images in one request.
    return batching_for(model.measured).max_batch_size * model.measured.memory_per_image
