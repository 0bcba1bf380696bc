"""Signing what a run has published, in the process of the command: no worker gets the key."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from export.errors import UserError
from serving_configs import MANIFEST
from serving_configs.errors import ConfigError
from serving_configs.hub.archive import archive_name
from serving_configs.tree.paths import HUB, SIGNATURE, version_path
from serving_configs.trust.keys import (
    TRUSTED_KEYS,
    PrivateKey,
    PublicKey,
    parse_public_keys,
    read_private_key,
    render_public_keys,
)
from serving_configs.trust.signature import sign_manifest, signature_problem

from ..store.base import Store, read
from ..verify import version_problems


def read_key(path: pathlib.Path | None, store: Store) -> PrivateKey | None:
    """The key of `--sign_with`, one that the tree knows if it knows any; None without the flag.

    Raises:
        UserError: it is no key, or not one of the tree's; or the tree has keys, and there is no
            flag.
    """
    try:
        trusted = _trusted_keys(store)
        key = read_private_key(path) if path is not None else None
    except ConfigError as error:
        raise UserError(f"--sign_with {error}" if path is not None else str(error)) from None
    if not trusted:
        return key
    if key is None:
        raise UserError(
            f"--publish_to {store.address('')}: its versions are signed ({TRUSTED_KEYS}); publish "
            "with --sign_with and a key of that file"
        )
    if key.public not in trusted:
        raise UserError(
            f"--sign_with {path}: none of the keys in {store.address(TRUSTED_KEYS)}; "
            "python -m serving_configs sign adds a key"
        )
    return key


def sign_published(store: Store, models: Iterable[Mapping[str, Any]], key: PrivateKey) -> None:
    """Signs what the run has published, before the configs for servers name it.

    Content that was published before is signed where it is not yet, after all of its files were
    read; its archives, which lack the signature, are removed and written again with the configs.

    Args:
        store: of the tree.
        models: the published models of the run's report.
        key: the key.

    Raises:
        UserError: a version of before is not as it was published, or a file cannot be written.
    """
    try:
        trusted = (*_trusted_keys(store), key.public)
        if key.public not in trusted[:-1]:
            store.write(TRUSTED_KEYS, render_public_keys(trusted))
        for model in models:
            _sign(store, model, key, trusted)
    except OSError as error:
        raise UserError(
            f"{store.address('')}: signatures cannot be written ({error.strerror or error}); the "
            "versions are there, and publishing them again signs them"
        ) from None


def _sign(
    store: Store, model: Mapping[str, Any], key: PrivateKey, trusted: tuple[PublicKey, ...]
) -> None:
    name, number = model["model"], model["version"]
    path = version_path(name, number)
    manifest = read(store, f"{path}/{MANIFEST}")
    if model["unchanged"]:
        if signature_problem(_signature(store, path), manifest, trusted) is None:
            return
        for problem in version_problems(store, name, str(number)):
            raise UserError(f"{store.address(path)}: {problem}; it was not signed")
        for publisher in store.children(HUB):
            store.remove(f"{HUB}/{archive_name(publisher, name, number)}")
    store.write(f"{path}/{SIGNATURE}", sign_manifest(manifest, key))


def _signature(store: Store, path: str) -> bytes | None:
    try:
        return read(store, f"{path}/{SIGNATURE}")
    except FileNotFoundError:
        return None


def _trusted_keys(store: Store) -> tuple[PublicKey, ...]:
    """The keys that a tree says its versions are signed with; none if it says nothing.

    Raises:
        ConfigError: it says something else.
    """
    try:
        content = read(store, TRUSTED_KEYS)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return parse_public_keys(content, store.address(TRUSTED_KEYS))
