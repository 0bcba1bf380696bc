"""From a checkpoint to a SavedModel, and the reference that it is compared with.

Imported from here, nothing needs TensorFlow; what does is in `export.model`,
`export.saved_model` and `export.convert`.
"""

from .checkpoints import Checkpoint, checkpoint_source, open_checkpoint
from .errors import CheckpointError, UserError
from .reference import forward as reference_forward
from .variants import VARIANTS, CaiTConfig, Variant, get_variant

__all__ = [
    "VARIANTS",
    "CaiTConfig",
    "Checkpoint",
    "CheckpointError",
    "UserError",
    "Variant",
    "checkpoint_source",
    "get_variant",
    "open_checkpoint",
    "reference_forward",
]
