"""Configs, deployment files, archives and pages of a tree that is not on a disk.

They are written around a copy of the tree's small files, and then put in place. Archives come
first, of one version at a time, which is read back for that.
"""

import functools
import pathlib
import re
import shutil

from export.errors import UserError, one_line
from serving_configs import MANIFEST
from serving_configs.errors import ConfigError
from serving_configs.hub.archive import (
    archive_name,
    has_signature_of,
    hub_root,
    write_archive,
)
from serving_configs.server.deployment import deployment_root, withdrawn_name
from serving_configs.tree.paths import EVALUATION, MODELS_CONFIG, SERVING, SIGNATURE
from serving_configs.tree.settings import SETTINGS
from serving_configs.trust.keys import TRUSTED_KEYS

from ..filesystem import BLOCK_BYTES
from ..store.beam import BeamStore
from .configs import write_configs

# The manifest of a version: the version, its model and its number.
_VERSION = re.compile(rf"({SERVING}/([^/]+)/(\d+))/{re.escape(str(MANIFEST))}")


def write_remote_configs(
    store: BeamStore, publisher: str, scratch: pathlib.Path, hub_url: str | None = None
) -> None:
    """Writes what `write_configs` writes of a tree on a disk.

    Of two runs at once the last one's configs stay; the next run puts in what they lack.

    Args:
        store: of the tree.
        publisher: the publisher's name in hub handles.
        scratch: a directory with room for one version and its archive, which do not stay.
        hub_url: where the hub's directory can be read, for the pages.

    Raises:
        UserError: something in the tree is not as it should be, or a file cannot be read or
            written.
    """
    copy = scratch / "configs"
    try:
        _write(store, publisher, copy, hub_url)
    except (ConfigError, OSError) as error:
        raise UserError(
            f"{store.address('')}: configs cannot be written ({one_line(error)})"
        ) from None
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _write(store: BeamStore, publisher: str, copy: pathlib.Path, hub_url: str | None) -> None:
    names = store.sizes("")
    versions = [found for found in map(_VERSION.fullmatch, names) if found]
    small = {MODELS_CONFIG, EVALUATION, SETTINGS, TRUSTED_KEYS}
    small |= {f"{found[1]}/{SIGNATURE}" for found in versions}
    copied = {found[0] for found in versions} | (small & names.keys())
    for name in copied:
        _fetch(store, name, copy)
    for _, version, model, number in (found.group(0, 1, 2, 3) for found in versions):
        archive = hub_root(str(copy)) / archive_name(publisher, model, int(number))
        name = archive.relative_to(copy).as_posix()
        opened = functools.partial(store.open, name)
        if name not in names or not has_signature_of(opened, name, copy / version):
            files = [n for n in names if n.startswith(f"{version}/")]
            _put_archive(store, files, copy, copy / version, archive)
    root = None if MODELS_CONFIG in names else store.address(SERVING)
    write_configs(str(copy), publisher, hub_url, root, archives=False)
    written = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    # What is hidden is of the writing alone: the lock, and the history of files that servers poll.
    written = {name for name in written - copied if not pathlib.PurePath(name).name.startswith(".")}
    written.add(SETTINGS)
    # The config last: it names nothing then that is not there.
    for name in [*sorted(written - {MODELS_CONFIG}), MODELS_CONFIG]:
        store.put_file(copy / name, name)
    for model in {found[2] for found in versions}:
        withdrawn = deployment_root(str(copy)) / withdrawn_name(model)
        if (name := withdrawn.relative_to(copy).as_posix()) in names:
            store.remove(name)


def _put_archive(
    store: BeamStore,
    files: list[str],
    copy: pathlib.Path,
    version: pathlib.Path,
    archive: pathlib.Path,
) -> None:
    for name in files:
        _fetch(store, name, copy)
    write_archive(version, archive)
    store.put_file(archive, archive.relative_to(copy).as_posix())
    archive.unlink()
    # Of the version its manifest stays, which everything else is written from.
    for path in version.rglob("*"):
        if path.is_file() and path not in (version / MANIFEST, version / SIGNATURE):
            path.unlink()


def _fetch(store: BeamStore, name: str, copy: pathlib.Path) -> None:
    target = copy / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with store.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, BLOCK_BYTES)
