"""The signatures of published models: the contract, preprocessing in the graph, the functions.

Beside them is what every package needs: addresses of files, headers of images, how a command ends.
Imports no other package of ours. Importing this package does not load TensorFlow; its modules
`functions`, `preprocessing`, `inspection` and `warmup` do.
"""

from .contract import (
    BOTH,
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    TOP_K,
    Head,
    SignatureContract,
    TensorContract,
    signatures_for,
)
from .geometry import Geometry
from .program import begin_early

# Every package of ours imports this one first, and some load for seconds.
begin_early()

__all__ = [
    "BOTH",
    "CLASSIFY_METHOD",
    "PREDICT_METHOD",
    "TOP_K",
    "Geometry",
    "Head",
    "SignatureContract",
    "TensorContract",
    "signatures_for",
]
