"""Variants that a worker converts in seconds."""

from export.variants import CaiTConfig, Variant
from tests.support.trees import TINY_VARIANT

SMALL_VARIANTS = (
    TINY_VARIANT,
    Variant("cait_tiny_48", CaiTConfig(48, 16, 48, 3, 3, num_classes=1000), 0, 0.0, 71.0, 91.0, ""),
)
