"""Signing what a run has published, in the process of the command: no worker gets the key."""

import contextlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from export.errors import UserError
from serving_configs import MANIFEST
from serving_configs.errors import ConfigError
from serving_configs.tree.paths import SERVING, SIGNATURE, version_path
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
from ..store.release import read_manifests


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
    except OSError as error:
        raise UserError(
            f"{store.address(TRUSTED_KEYS)}: cannot be read ({error.strerror or error})"
        ) from None
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
            "add its public key there, or run python -m serving_configs sign, which does"
        )
    return key


@contextlib.contextmanager
def signed_at_the_end(
    store: Store, run: str, models: Callable[[], Iterable[str]], key: PrivateKey | None
) -> Iterator[None]:
    """Signs what a run has published, when the block ends and also when it is interrupted.

    A version that this run did not make is never signed: its manifest may say what nobody checked.

    Args:
        store: of the tree.
        run: the run's name.
        models: the names of the models that it publishes.
        key: the key; None signs nothing.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        yield
    finally:
        if key is not None:
            _sign_run(store, run, models(), key)


def unsigned_notes(
    store: Store, models: Iterable[Mapping[str, Any]], key: PrivateKey | None
) -> list[str]:
    """A line for each model whose content was published before and has no signature.

    Args:
        store: of the tree.
        models: the published models of the run's report.
        key: the key of the run; None where versions are not signed.
    """
    if key is None:
        return []
    trusted = _trusted_keys(store)
    notes = []
    for model in models:
        path = version_path(model["model"], model["version"])
        manifest = read(store, f"{path}/{MANIFEST}")
        if problem := signature_problem(_signature(store, path), manifest, trusted):
            notes.append(
                f"{store.address(path)} was published before and stays as it is: {problem}; "
                "publish it again with --version, or check it and sign it by: "
                "python -m serving_configs sign"
            )
    return notes


def _sign_run(store: Store, run: str, models: Iterable[str], key: PrivateKey) -> None:
    try:
        present = store.children(SERVING)
        made = [
            version_path(model, version)
            for model in models
            if model in present
            for version, manifest in read_manifests(store, model).items()
            if manifest is not None and manifest.run == run
        ]
        trusted = _trusted_keys(store)
        if made and key.public not in trusted:
            store.write(TRUSTED_KEYS, render_public_keys((*trusted, key.public)))
        for path in made:
            manifest = read(store, f"{path}/{MANIFEST}")
            store.write(f"{path}/{SIGNATURE}", sign_manifest(manifest, key))
    except OSError as error:
        raise UserError(
            f"{store.address('')}: signatures cannot be written ({error.strerror or error}); the "
            "versions are there: python -m serving_configs sign"
        ) from None


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
