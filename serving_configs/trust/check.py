"""Refusing versions of a disk that are not signed."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ..errors import ConfigError
from ..hub.members import archived_files
from ..hub.reader import check_archive, read_small_members
from ..tree.files import UNLISTED, difference, open_file, record_files
from ..tree.manifest import identity_problems, load_manifest, parse_manifest, version_problems
from ..tree.paths import MANIFEST, SIGNATURE, version_directory
from .keys import TRUSTED_KEYS, PublicKey, read_public_keys
from .signature import signature_problem

LARGEST_SIGNATURE = 1 << 20


def signed_version_problems(directory: pathlib.Path, keys: Sequence[PublicKey]) -> list[str]:
    """Why a version is not as one of the keys signed it, a line for each; every file is read.

    Args:
        directory: `.../<model>/<version>`.
        keys: the keys whose signatures count.
    """
    if problem := version_signature_problem(directory, keys):
        return [problem]
    # Other permissions than a publisher gave do no harm: a mount of Kubernetes changes them.
    return version_problems(directory, modes=False)


def unpacked_problem(
    directory: pathlib.Path, of: tuple[str, str] | None, keys: Sequence[PublicKey]
) -> str | None:
    """Why an unpacked archive is not as one of the keys signed it; None where it is.

    Args:
        directory: of its files.
        of: the model and the version that it should be of; None for any.
        keys: the keys whose signatures count.
    """
    if problem := version_signature_problem(directory, keys):
        return problem
    manifest = load_manifest(directory)
    problems = identity_problems(manifest, *of) if of else []
    problems += difference(archived_files(manifest.files), record_files(directory))
    return problems[0] if problems else None


def version_signature_problem(directory: pathlib.Path, keys: Sequence[PublicKey]) -> str | None:
    """Why a version's signature does not vouch for its manifest; None where it does.

    Args:
        directory: a version's, or an unpacked archive of the hub.
        keys: the keys whose signatures count.
    """
    try:
        with open_file(directory / MANIFEST) as file:
            manifest = file.read()
    except FileNotFoundError:
        return f"not signed: there is no {MANIFEST}"
    except OSError as error:
        return f"{MANIFEST}: cannot be read ({error.strerror})"
    return signature_problem(read_signature(directory), manifest, keys)


def archive_signature_problem(
    open_archive: Callable[[], BinaryIO], name: str, of: tuple[str, str], keys: Sequence[PublicKey]
) -> str | None:
    """Why an archive of the hub is not as one of the keys signed it; None where it is.

    Args:
        open_archive: opens the archive at its start.
        name: the archive's name, for error messages.
        of: the model and the version that it should be of.
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
    parsed = parse_manifest(manifest)
    model = (record for record in found if record.path not in UNLISTED)
    problems = identity_problems(parsed, *of) + difference(archived_files(parsed.files), model)
    return problems[0] if problems else None


def read_signature(directory: pathlib.Path) -> bytes | None:
    """The content of a version's signature; None where it has none that can be read."""
    try:
        with open_file(directory / SIGNATURE) as file:
            # What is longer is no signature, and would fill memory.
            return file.read(LARGEST_SIGNATURE)
    except OSError:
        return None


def trusted_keys(publish_to: str) -> tuple[PublicKey, ...]:
    """The keys that a tree on a disk says its versions are signed with; none if it says nothing.

    Raises:
        ConfigError: the file is there, and holds no key.
    """
    path = pathlib.Path(publish_to) / TRUSTED_KEYS
    return read_public_keys([path]) if os.path.lexists(path) else ()


def require_sound(publish_to: str, model: str, version: int) -> None:
    """Refuses a version whose files differ from its manifest; every file is read.

    Raises:
        ConfigError: they do.
    """
    if problems := version_problems(version_directory(publish_to, model, version)):
        raise ConfigError(f"version {version} of {model} does not verify: {problems[0]}")


def require_signature(publish_to: str, model: str, version: int) -> None:
    """Refuses a version that is not signed, of a tree whose versions are.

    Raises:
        ConfigError: no key of the tree signed it.
    """
    directory = version_directory(publish_to, model, version)
    keys = trusted_keys(publish_to)
    if keys and (problem := version_signature_problem(directory, keys)):
        raise ConfigError(
            f"version {version} of {model}: {problem}; {TRUSTED_KEYS} says that versions here are "
            "signed, and python -m serving_configs sign does it"
        )
