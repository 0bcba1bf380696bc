"""Everything that is written around a model in the published tree. Imports `signatures`."""

from .tree.files import FileRecord, record_files
from .tree.manifest import (
    Manifest,
    ManifestError,
    Weights,
    contract_digest,
    load_manifest,
    parse_manifest,
    published_versions,
    render_manifest,
    version_problems,
)
from .tree.paths import MANIFEST, base_path, hub_handle, next_version

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "ManifestError",
    "Weights",
    "base_path",
    "contract_digest",
    "hub_handle",
    "load_manifest",
    "next_version",
    "parse_manifest",
    "published_versions",
    "record_files",
    "render_manifest",
    "version_problems",
]
