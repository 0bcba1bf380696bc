"""What a published model answers: the contract, preprocessing in the graph, the signatures.

Imported from here, the contract needs no TensorFlow; what does is in `signatures.functions` and
`signatures.preprocessing`.
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
