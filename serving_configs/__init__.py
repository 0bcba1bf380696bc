"""What is written around a model: paths and versions of the published tree."""

from .tree import (
    MANIFEST,
    base_path,
    hub_handle,
    next_version,
    report_path,
    serving_root,
    staging_root,
)

__all__ = [
    "MANIFEST",
    "base_path",
    "hub_handle",
    "next_version",
    "report_path",
    "serving_root",
    "staging_root",
]
