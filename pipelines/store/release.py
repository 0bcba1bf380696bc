"""Giving a version its number and putting it in place."""

import dataclasses
import pathlib

from export.errors import UserError
from serving_configs import (
    MANIFEST,
    Manifest,
    ManifestError,
    next_version,
    parse_manifest,
    record_files,
    render_manifest,
)

from .storage import Storage, open_storage, read


class ReleaseError(UserError):
    """A version is refused by what is published already. Nothing was changed."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A version that is in place.

    Attributes:
        version: its number.
        path: its directory.
        new: False when the same content was published before this run.
    """

    version: int
    path: str
    new: bool = True


def release(
    directory: pathlib.Path,
    publish_to: str,
    draft: Manifest,
    version: int | None = None,
    allow_untrained: bool = False,
) -> Release:
    """Publishes a staged model under the next free number, or a given one.

    Does nothing when its content is published already. A runner may do a step again that was
    already done: the version that this run put in place is found by the run's name in its manifest.

    Args:
        directory: the staged model; on the filesystem of the tree where that is a local disk.
        publish_to: root of the published tree.
        draft: all of the manifest but the number and the files.
        version: the number; None for the next free one.
        allow_untrained: lets weights that are not trained beside those that are.

    Raises:
        ReleaseError: the number has other content, or untrained weights would come beside trained.
        OSError: the tree can't be written, or the staged model can't be read.
    """
    storage = open_storage(publish_to)
    base = f"serving/{draft.model}"
    manifest = draft
    while True:
        # Before the manifests: what another run publishes in between is seen in them, or its number
        # is taken when this one wants it. The other way round, the same content could get two.
        names = storage.children(base)
        archived = _archived(storage, draft.model)
        published = read_manifests(storage, draft.model)
        for number, found in published.items():
            if found is not None and found.run == draft.run:
                return Release(number, storage.address(f"{base}/{number}"))
        if manifest is draft:
            manifest = dataclasses.replace(draft, files=record_files(directory))
            if not manifest.files:
                raise FileNotFoundError(f"{directory}: there is nothing to publish")
        done = _published_before(published, manifest, version)
        if done is not None:
            return Release(done, storage.address(f"{base}/{done}"), new=False)
        if not allow_untrained and not draft.checkpoint.trained:
            refuse_untrained(storage)
        number = version or next_version([*names, *archived])
        for name in names:
            if name.isdecimal() and int(name) == number:
                raise ReleaseError(
                    f"{storage.address(base)}/{name} is there already, with other content; "
                    "versions never change: publish with --version auto or another number"
                )
        content = render_manifest(dataclasses.replace(manifest, version=number)).encode()
        path = f"{base}/{number}"
        if storage.put_version(directory, path, content):
            return Release(number, storage.address(path))
        # Another run took the number in between.


def read_manifests(storage: Storage, model: str) -> dict[int, Manifest | None]:
    """The versions of a model -> their manifests, None for one that can't be used."""
    manifests: dict[int, Manifest | None] = {}
    for name in storage.children(f"serving/{model}"):
        if not name.isdecimal() or name != str(int(name)):
            continue
        try:
            content = read(storage, f"serving/{model}/{name}/{MANIFEST}")
            manifests[int(name)] = parse_manifest(content)
        except (FileNotFoundError, NotADirectoryError):
            continue  # Not a version, to our readers.
        except ManifestError:
            manifests[int(name)] = None
    return manifests


def refuse_untrained(storage: Storage) -> None:
    """Holds a tree of trained weights free of untrained ones.

    Raises:
        ReleaseError: the tree holds trained weights.
    """
    for model in storage.children("serving"):
        for version, manifest in read_manifests(storage, model).items():
            if manifest is not None and manifest.checkpoint.trained:
                raise ReleaseError(
                    f"the weights are not trained, and {storage.address('serving')}/{model}/"
                    f"{version} holds trained ones; publish to another tree, or with "
                    "--allow_untrained"
                )


def _published_before(
    published: dict[int, Manifest | None], manifest: Manifest, version: int | None
) -> int | None:
    """The version that has the content; of several the latest."""
    same = [
        number
        for number, found in published.items()
        if found is not None and found.content == manifest.content
    ]
    if version is not None:
        return version if version in same else None
    return max(same, default=None)


def _archived(storage: Storage, model: str) -> list[str]:
    """Numbers whose archive is there, maybe of a version that is not: an address that was published
    never gets other content.
    """
    return [
        name.removesuffix(".tar.gz")
        for publisher in storage.children("hub")
        if publisher != "docs"
        for name in storage.children(f"hub/{publisher}/{model}")
    ]
