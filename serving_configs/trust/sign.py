"""The command `sign`: signing versions that are published."""

import dataclasses
import pathlib

from ..errors import ConfigError
from ..hub.archive import hub_root, write_archive
from ..tree.atomic import locked, write_atomically
from ..tree.manifest import published_versions, version_problems
from ..tree.paths import (
    MANIFEST,
    MODELS_CONFIG,
    SIGNATURE,
    serving_root,
    version_directory,
)
from .check import trusted_keys, version_signature_problem
from .keys import TRUSTED_KEYS, PrivateKey, render_public_keys
from .signature import sign_manifest


@dataclasses.dataclass(frozen=True)
class _Unsigned:
    """A version that is to be signed."""

    model: str
    version: int
    directory: pathlib.Path


def sign_tree(publish_to: str, key: PrivateKey, replace: bool = False) -> list[pathlib.Path]:
    """Signs what no key of the tree has signed, and makes the key one of the tree's.

    Every file of these versions is compared with its manifest first; if one is not as it was
    published, nothing is changed. Their archives are written anew, with the signature.

    Args:
        publish_to: root of the published tree.
        key: the key to sign with.
        replace: whether signatures of the tree's other keys are replaced too, and these keys are
            the tree's no longer.

    Returns:
        The directories of the versions that were signed.

    Raises:
        ConfigError: nothing is published there, or a version is not as it was published.
        OSError: a file cannot be written.
    """
    with locked(pathlib.Path(publish_to) / MODELS_CONFIG):
        trusted = trusted_keys(publish_to)
        kept = (key.public,) if replace else (*trusted, key.public)
        unsigned = [
            _Unsigned(model, version, directory)
            for model, versions in published_versions(publish_to).items()
            for version in versions
            if version_signature_problem(
                directory := version_directory(publish_to, model, version), kept
            )
        ]
        if not published_versions(publish_to):
            raise ConfigError(
                f"{serving_root(publish_to)}: no published version; expected <model>/<version> "
                "with a manifest"
            )
        for entry in unsigned:
            for problem in version_problems(entry.directory):
                raise ConfigError(
                    f"version {entry.version} of {entry.model} does not verify: {problem}; "
                    "nothing was signed"
                )
        keys_file = pathlib.Path(publish_to) / TRUSTED_KEYS
        # Until all are signed by the new key, the old ones are valid, too.
        write_atomically(keys_file, render_public_keys((*trusted, key.public)))
        for entry in unsigned:
            signature = sign_manifest((entry.directory / MANIFEST).read_bytes(), key)
            write_atomically(entry.directory / SIGNATURE, signature)
            for archive in _archives(publish_to, entry):
                write_archive(entry.directory, archive, replace=True)
        write_atomically(keys_file, render_public_keys(kept))
        return [entry.directory for entry in unsigned]


def _archives(publish_to: str, entry: _Unsigned) -> list[pathlib.Path]:
    return sorted(hub_root(publish_to).glob(f"*/{entry.model}/{entry.version}.tar.gz"))
