"""Checkpoints in timm's layout, from files, the model hub or a seed. Imports no TensorFlow."""

from .sources import Checkpoint, RandomSource, checkpoint_source, open_checkpoint

__all__ = ["Checkpoint", "RandomSource", "checkpoint_source", "open_checkpoint"]
