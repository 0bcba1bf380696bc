"""The memory of a server, by a formula fitted to measured servers.

`python -m benchmarks.serving_memory` measures servers and compares them with the formula; its table
is in `docs/benchmarks.md`.
"""

from collections.abc import Sequence

from ..tree.paths import SAVED_MODEL, VARIABLES
from ..tree.published import PublishedModel
from .batching import batching_for

_MIB = 2**20

# A server without a model, and what its heaps keep. The development server took 621 MiB, TF Serving
# about 200.
_BASE = 724 * _MIB
# Per byte of weights: the weights, and buffers while a version loads.
_WEIGHTS = 1.25
# Per block of a version: its graph, its functions for each signature, and what its warm-up leaves.
# The 26 blocks of cait_xxs24_224 and cait_s24_384 took 160 to 240 MiB, on TF Serving up to 300.
_BLOCK = 10 * _MIB
# Per byte of a graph with constants, which each signature that runs has several times over:
# cait_xxs24_224 and cait_s24_224 took 23 to 27.
_CONSTANTS = 28
# Requests at the same time, each as large as the largest of the warm-up.
_REQUESTS = 4


def server_memory(models: Sequence[tuple[PublishedModel, int]]) -> int:
    """The bytes of a container's memory limit.

    Args:
        models: each model with the number of its versions that are loaded at the same time.
    """
    versions = sum(number * _version_memory(model) for model, number in models)
    return _BASE + versions + _REQUESTS * max(_request_memory(model) for model, _ in models)


def _version_memory(model: PublishedModel) -> int:
    blocks = model.geometry.sa_blocks + model.geometry.ca_blocks
    weights = sum(file.size for file in model.files if file.path.startswith(f"{VARIABLES}/"))
    graph = sum(file.size for file in model.files if file.path == SAVED_MODEL)
    # Graphs without constants are as large as their blocks are many.
    constants = graph * _CONSTANTS if model.profile == "throughput" else 0
    return int(_WEIGHTS * weights) + blocks * _BLOCK + constants


def _request_memory(model: PublishedModel) -> int:
    if model.latency_profile is None:
        return 0
    # A client may send as many images in one request, also without batching.
    return (
        batching_for(model.latency_profile).max_execution_batch_size
        * model.latency_profile.memory_per_image
    )
