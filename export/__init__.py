"""From a checkpoint to a SavedModel, and the reference for it. Imports `signatures`.

`import export` does not load TensorFlow. Looking up `create_cait` or `save_checkpoint` does, and so
does importing `export.model`, `export.convert` or `export.saved_model.writer`.
"""

from typing import TYPE_CHECKING, Any

from .checkpoints.sources import Checkpoint, checkpoint_source, open_checkpoint
from .errors import CheckpointError, UserError
from .reference.forward_pass import forward as reference_forward
from .variants import VARIANTS, CaiTConfig, Variant, get_variant

if TYPE_CHECKING:
    from .create import create_cait
    from .photographs import preprocess
    from .save import save_checkpoint

__all__ = [
    "VARIANTS",
    "CaiTConfig",
    "Checkpoint",
    "CheckpointError",
    "UserError",
    "Variant",
    "checkpoint_source",
    "create_cait",
    "get_variant",
    "open_checkpoint",
    "preprocess",
    "reference_forward",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name == "create_cait":
        from .create import create_cait

        return create_cait
    if name == "preprocess":
        from .photographs import preprocess

        return preprocess
    if name == "save_checkpoint":
        from .save import save_checkpoint

        return save_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
