"""Which files an archive of the hub has: all others are refused."""

import fnmatch
from collections.abc import Iterable

from ..tree.files import FileRecord
from ..tree.manifest import FOR_SERVERS
from ..tree.paths import MANIFEST, SAVED_MODEL, SIGNATURE

# They are members of their own: tensorflow_hub makes no other directories when it unpacks.
DIRECTORIES = ("assets", str(SIGNATURE.parent), "variables")
INCLUDED = (
    SAVED_MODEL,
    "keras_metadata.pb",
    "fingerprint.pb",
    "assets/*",
    "variables/variables.*",
)
SIGNED = (str(MANIFEST), str(SIGNATURE))


def archived_files(records: Iterable[FileRecord]) -> list[FileRecord]:
    """The files of a manifest that the version's archive has."""
    return [record for record in records if not record.path.startswith(FOR_SERVERS)]


def allowed(name: str) -> bool:
    """Whether an archive may have a file with this name."""
    # `*` of a pattern matches `..` and subdirectories, too.
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return False
    # A terminal would obey them.
    if not name.isprintable():
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in (*INCLUDED, *SIGNED))
