"""Weights by timm's keys from every source: files, the model hub, or random ones.

Imports nothing that needs TensorFlow.
"""

from .sources import Checkpoint, RandomSource, checkpoint_source, open_checkpoint

__all__ = ["Checkpoint", "RandomSource", "checkpoint_source", "open_checkpoint"]
