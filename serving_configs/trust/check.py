"""Refusing versions of a disk that are not signed."""

import pathlib
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ..hub.members import archived_files
from ..hub.reader import check_archive, read_small_members
from ..tree.files import UNLISTED, difference, open_file
from ..tree.manifest import (
    parse_manifest,
    version_problems,
)
from ..tree.paths import MANIFEST, SIGNATURE
from .keys import TRUSTED_KEYS, PublicKey, read_public_keys
from .signature import signature_problem


def signed_version_problems(directory: pathlib.Path, keys: Sequence[PublicKey]) -> list[str]:
    """Why a version is not as one of the keys signed it, a line for each; every file is read.

    Args:
        directory: `.../<model>/<version>`.
        keys: the keys whose signatures count.
    """
    if problem := version_signature_problem(directory, keys):
        return [problem]
    return version_problems(directory)


def version_signature_problem(directory: pathlib.Path, keys: Sequence[PublicKey]) -> str | None:
    """Why a version's signature does not vouch for its manifest; None where it does.

    Args:
        directory: a version's, or an unpacked archive of the hub.
        keys: the keys whose signatures count.
    """
    try:
        with open_file(directory / MANIFEST) as file:
            manifest = file.read()
    except OSError as error:
        return f"{MANIFEST}: cannot be read ({error.strerror})"
    return signature_problem(read_signature(directory), manifest, keys)


def archive_signature_problem(
    open_archive: Callable[[], BinaryIO], name: str, keys: Sequence[PublicKey]
) -> str | None:
    """Why an archive of the hub is not as one of the keys signed it; None where it is.

    Args:
        open_archive: opens the archive at its start.
        name: the archive's name, for error messages.
        keys: the keys whose signatures count.

    Raises:
        ConfigError: the archive is damaged.
        OSError: it cannot be read.
    """
    with open_archive() as file:
        small = read_small_members(file, name, UNLISTED)
    manifest = small.get(str(MANIFEST))
    if manifest is None:
        return f"not signed: there is no {MANIFEST}"
    if problem := signature_problem(small.get(str(SIGNATURE)), manifest, keys):
        return problem
    with open_archive() as file:
        found = check_archive(file, name)
    expected = archived_files(parse_manifest(manifest).files)
    model = (record for record in found if record.path not in UNLISTED)
    return next(iter(difference(expected, model)), None)


def read_signature(directory: pathlib.Path) -> bytes | None:
    """The content of a version's signature; None where it has none that can be read."""
    try:
        with open_file(directory / SIGNATURE) as file:
            return file.read()
    except OSError:
        return None


def trusted_keys(publish_to: str) -> tuple[PublicKey, ...]:
    """The keys that a tree on a disk says its versions are signed with; none if it says nothing.

    Raises:
        ConfigError: the file is there, and holds no key.
    """
    path = pathlib.Path(publish_to) / TRUSTED_KEYS
    return read_public_keys([path]) if path.exists() else ()
