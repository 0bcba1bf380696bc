"""The command `sign`: signing versions that are published."""

import dataclasses
import pathlib
from collections.abc import Sequence

from ..errors import ConfigError
from ..hub.archive import archive_name, hub_root, write_archive
from ..tree.atomic import locked, write_atomically
from ..tree.manifest import version_problems
from ..tree.paths import (
    MANIFEST,
    MODELS_CONFIG,
    SIGNATURE,
    version_directory,
)
from ..tree.published import require_versions
from .check import trusted_keys, version_signature_problem
from .keys import TRUSTED_KEYS, PrivateKey, PublicKey, render_public_keys
from .signature import sign_manifest


@dataclasses.dataclass(frozen=True)
class _Version:
    """A published version."""

    model: str
    number: int
    directory: pathlib.Path


def sign_tree(
    publish_to: str, key: PrivateKey, replaced: Sequence[PublicKey] = ()
) -> list[pathlib.Path]:
    """Signs what no key of the tree has signed, and makes the key one of the tree's.

    The key vouches for all that is there. Every file of these versions is compared with its
    manifest first; if one is not as it was published, nothing is changed. Archives without the
    signature are written anew, also those that a run before this one left.

    Args:
        publish_to: root of the published tree.
        key: the key to sign with.
        replaced: keys whose signatures are replaced, and which are the tree's keys no longer. A
            version that neither they nor `key` signed is refused then: it may be a stranger's.

    Returns:
        The directories of the versions that were signed.

    Raises:
        ConfigError: nothing is published there, or a version is not as it was published.
        OSError: a file cannot be written.
    """
    published = require_versions(publish_to)
    with locked(pathlib.Path(publish_to) / MODELS_CONFIG):
        trusted = trusted_keys(publish_to)
        kept = (key.public,) if replaced else (*trusted, key.public)
        versions = [
            _Version(model, version, version_directory(publish_to, model, version))
            for model, numbers in published.items()
            for version in numbers
        ]
        unsigned = [v for v in versions if version_signature_problem(v.directory, kept)]
        for version in unsigned:
            _check(version, replaced)
        keys_file = pathlib.Path(publish_to) / TRUSTED_KEYS
        # Until all are signed by the new key, the old ones are valid, too.
        write_atomically(keys_file, render_public_keys((*trusted, key.public)))
        for version in unsigned:
            signature = sign_manifest((version.directory / MANIFEST).read_bytes(), key)
            # A version has no other files than its manifest says, at any moment.
            scratch = pathlib.Path(publish_to)
            write_atomically(version.directory / SIGNATURE, signature, scratch)
        for version in versions:
            for archive in _archives(publish_to, version):
                write_archive(version.directory, archive)
        write_atomically(keys_file, render_public_keys(kept))
        return [version.directory for version in unsigned]


def _check(version: _Version, replaced: Sequence[PublicKey]) -> None:
    if replaced and (problem := version_signature_problem(version.directory, replaced)):
        raise ConfigError(
            f"version {version.number} of {version.model}: {problem}; expected a signature of the "
            "new key or of one in --replace; nothing was signed"
        )
    for problem in version_problems(version.directory):
        raise ConfigError(
            f"version {version.number} of {version.model} does not verify: {problem}; nothing was "
            "signed"
        )


def _archives(publish_to: str, version: _Version) -> list[pathlib.Path]:
    hub = hub_root(publish_to)
    publishers = sorted(hub.iterdir()) if hub.is_dir() and not hub.is_symlink() else []
    archives = [hub / archive_name(p.name, version.model, version.number) for p in publishers]
    return [path for path in archives if path.is_file() and not path.is_symlink()]
