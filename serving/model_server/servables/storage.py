"""The versions in a model's base path, and which of them a policy aspires to serve.

Source: `file_system_storage_path_source.cc` of tensorflow/serving's sources.
"""

import logging
import os
import pathlib
import re
from collections.abc import Iterable

from tensorflow_serving.config.file_system_storage_path_source_pb2 import (
    FileSystemStoragePathSourceConfig,
)

from ...errors import invalid_argument

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\s*(-?[0-9]+)\s*", re.ASCII)


def version_number(name: str) -> int | None:
    """The version that a directory's name means, or None.

    As `strings::safe_strto64` reads it: decimal digits, with an optional minus and spaces, within
    64 bits. So `1` and `001` are the same version.
    """
    match = _NUMBER.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    return number if -(2**63) <= number < 2**63 else None


def list_versions(model: str, base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Every version under a base path.

    Raises:
        ServingError: INVALID_ARGUMENT, the base path does not exist or cannot be read.
    """
    try:
        names = sorted(os.listdir(base_path))
    except OSError as error:
        raise invalid_argument(
            f"Could not find base path {base_path} for servable {model} with error {error.strerror}"
        ) from error
    versions: dict[int, pathlib.Path] = {}
    for name in names:
        number = version_number(name)
        if number is None:
            continue
        if number in versions:
            _log.warning(
                "Duplicate version directories detected. Version %d will be loaded from %s, "
                "%s will be ignored.",
                number,
                name,
                versions[number].name,
            )
        versions[number] = base_path / name
    return versions


def aspired_versions(
    versions: Iterable[int], policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy
) -> set[int]:
    """The versions, of those in a base path, that a policy aspires to serve.

    An empty policy means the latest version; `latest` means at least one.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(versions)
    if choice == "specific":
        return set(versions) & set(policy.specific.versions)
    return set(sorted(versions)[-max(policy.latest.num_versions, 1) :])
