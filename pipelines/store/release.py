"""Giving a version its number and putting it in place."""

import dataclasses
import hashlib
from collections.abc import Mapping

from export.errors import UserError
from serving_configs import (
    MANIFEST,
    FileRecord,
    Manifest,
    ManifestError,
    next_version,
    parse_manifest,
    render_manifest,
)
from serving_configs.tree.paths import HUB, SERVING, is_version, version_path
from signatures import Geometry, Head
from signatures.labels import default_labels

from .base import Store, read


class ReleaseError(UserError):
    """A version is refused by what is published already. Nothing was changed."""


@dataclasses.dataclass(frozen=True)
class StagedFiles:
    """The files of a version that is to be published.

    Attributes:
        path: where the staged model is, in the store.
        files: its files.
        extra: further files and their content, such as the warm-up requests.
    """

    path: str
    files: tuple[FileRecord, ...]
    extra: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def records(self) -> tuple[FileRecord, ...]:
        """All files of the version but the manifest, in the order of their paths."""
        extra = (
            FileRecord(name, len(content), hashlib.sha256(content).hexdigest())
            for name, content in self.extra.items()
        )
        return tuple(sorted([*self.files, *extra], key=lambda record: record.path.split("/")))


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
    store: Store,
    staged: StagedFiles,
    draft: Manifest,
    version: int | None = None,
    allow_untrained: bool = False,
) -> Release:
    """Publishes a staged model under the next free number, or a given one.

    Does nothing when its content is published already. A runner may repeat a step: the version
    that this run put in place is recognised by the run's name in its manifest.

    Args:
        store: of the tree.
        staged: the model; it stays as it is.
        draft: all of the manifest but the number and the files.
        version: the number; None for the next free one.
        allow_untrained: lets weights that are not trained beside those that are.

    Raises:
        ReleaseError: the number has other content, untrained weights would come beside trained, or
            see `refuse_other_classes`.
        OSError: the tree can't be written, or the staged model can't be read.
    """
    manifest = dataclasses.replace(draft, files=staged.records)
    base = f"{SERVING}/{draft.model}"
    while True:
        published = _Published.of(store, draft.model)
        if (own := published.by_run(draft.run)) is not None:
            return Release(own, store.address(f"{base}/{own}"))
        if not staged.files:
            raise FileNotFoundError(f"{store.address(staged.path)}: there is nothing to publish")
        if (same := published.with_content(manifest, version)) is not None:
            return Release(same, store.address(f"{base}/{same}"), new=False)
        if not allow_untrained and not draft.checkpoint.trained:
            refuse_untrained(store)
        _require_same_classes(store, draft.model, ModelInterface.of(draft), published.manifests)
        number = version or published.next_number()
        if (taken := published.name_of(number)) is not None:
            raise ReleaseError(
                f"{store.address(base)}/{taken} is there already, with other content; "
                "versions never change: publish with --version auto or another number"
            )
        content = render_manifest(dataclasses.replace(manifest, version=number)).encode()
        path = f"{base}/{number}"
        names = [record.path for record in staged.files]
        if store.put_version(staged.path, names, path, {**staged.extra, str(MANIFEST): content}):
            return Release(number, store.address(path))
        # Another run took the number in between.


@dataclasses.dataclass(frozen=True)
class _Published:
    """What is published of a model.

    Attributes:
        names: all that is in its base path.
        archived: numbers with an archive, maybe of a removed version: an address that was
            published never gets other content.
        manifests: by version; None for one that can't be used.
    """

    names: list[str]
    archived: list[str]
    manifests: dict[int, Manifest | None]

    @classmethod
    def of(cls, store: Store, model: str) -> "_Published":
        # Names before manifests: what another run publishes in between is seen in the manifests,
        # or its number is taken when this run claims it. The other way round, the same content
        # could get two numbers.
        names = store.children(f"{SERVING}/{model}")
        archived = [
            name.removesuffix(".tar.gz")
            for publisher in store.children(HUB)
            if publisher != "docs"
            for name in store.children(f"{HUB}/{publisher}/{model}")
        ]
        return cls(names, archived, read_manifests(store, model))

    def by_run(self, run: str) -> int | None:
        """The version that a run published."""
        found = (n for n, manifest in self.manifests.items() if manifest and manifest.run == run)
        return next(found, None)

    def with_content(self, manifest: Manifest, version: int | None) -> int | None:
        """The version that has a content; of several the latest, or the one with the number."""
        same = [
            n for n, found in self.manifests.items() if found and found.content == manifest.content
        ]
        if version is not None:
            return version if version in same else None
        return max(same, default=None)

    def next_number(self) -> int:
        """A number that was never published."""
        return next_version([*self.names, *self.archived])

    def name_of(self, number: int) -> str | None:
        """The name in the base path that stands for a number, such as `005`."""
        return next((n for n in self.names if n.isdecimal() and int(n) == number), None)


def read_manifests(store: Store, model: str) -> dict[int, Manifest | None]:
    """The versions of a model -> their manifests, None for one that can't be used."""
    manifests: dict[int, Manifest | None] = {}
    for name in store.children(f"{SERVING}/{model}"):
        if not is_version(name):
            continue
        try:
            content = read(store, f"{version_path(model, name)}/{MANIFEST}")
            manifests[int(name)] = parse_manifest(content)
        except (FileNotFoundError, NotADirectoryError):
            continue  # Not a version, to our readers.
        except ManifestError:
            manifests[int(name)] = None
    return manifests


@dataclasses.dataclass(frozen=True)
class ModelInterface:
    """What all versions of a model have in common: a client that knows one can read all.

    Attributes:
        head: the model's head.
        geometry: its sizes.
        labels: names of the classes, as in `Manifest`.
    """

    head: Head
    geometry: Geometry
    labels: tuple[str, ...] | None

    @classmethod
    def of(cls, manifest: Manifest) -> "ModelInterface":
        """Those of a version."""
        return cls(manifest.head, manifest.geometry, manifest.labels)

    @property
    def has_numbers_alone(self) -> bool:
        """Whether nothing names its classes."""
        numbers = tuple(map(str, range(self.geometry.num_classes)))
        return (self.labels or default_labels(len(numbers))) == numbers

    def difference(self, other: "ModelInterface") -> tuple[str, str] | None:
        """The first difference, as each has it in words; None where there is none."""
        ours, theirs = self.geometry, other.geometry
        if ours.image_size != theirs.image_size:
            return f"images of {ours.image_size} pixels", f"images of {theirs.image_size}"
        if self.head == "features" and ours.embed_dim != theirs.embed_dim:
            return f"{ours.embed_dim} features", f"{theirs.embed_dim}"
        if not ours.num_classes or not theirs.num_classes:
            return None  # Features of weights without a head: of no classes.
        if ours.num_classes != theirs.num_classes:
            return f"{ours.num_classes} classes", f"{theirs.num_classes}"
        # They are not known of a version from before they were recorded.
        if None not in (self.labels, other.labels) and self.labels != other.labels:
            names = (m.labels or default_labels(ours.num_classes) for m in (self, other))
            for number, (one, two) in enumerate(zip(*names, strict=True)):
                if one != two:
                    return f"class {number} {one!r}", f"{two!r}"
        return None


def refuse_other_classes(store: Store, model: str, classes: ModelInterface) -> None:
    """Keeps weights of other classes, or of another image size, out of a model's versions.

    Args:
        store: of the tree.
        model: the name that they would be published under.
        classes: of the weights.

    Raises:
        ReleaseError: the model's latest version is of others, or another model's name differs from
            this one in `_` and `-` alone.
    """
    alike = model.replace("_", "-")
    for other in store.children(SERVING):
        if other != model and other.replace("_", "-") == alike:
            raise ReleaseError(
                f"{store.address(SERVING)}/{other} has the same name as {model} in Kubernetes and "
                f"on the hub, {alike}; expected another --model_name"
            )
    _require_same_classes(store, model, classes, read_manifests(store, model))


def _require_same_classes(
    store: Store, model: str, classes: ModelInterface, manifests: Mapping[int, Manifest | None]
) -> None:
    latest = max((n for n, manifest in manifests.items() if manifest), default=None)
    manifest = manifests[latest] if latest is not None else None
    if manifest and (difference := ModelInterface.of(manifest).difference(classes)):
        published, found = difference
        text = (
            f"{store.address(version_path(model, latest or 0))} has {published}, the weights have "
            f"{found}; versions of a model have the same classes and image size: "
        )
        same_number = manifest.geometry.num_classes == classes.geometry.num_classes
        if same_number and classes.has_numbers_alone:
            text += "name the weights' classes with --labels, or "
        raise ReleaseError(f"{text}publish them with --model_name and a name of their own")


def refuse_untrained(store: Store) -> None:
    """Keeps untrained weights out of a tree of trained ones.

    Raises:
        ReleaseError: the tree holds trained weights.
    """
    for model in store.children(SERVING):
        for version, manifest in read_manifests(store, model).items():
            if manifest is not None and manifest.checkpoint.trained:
                raise ReleaseError(
                    f"the weights are not trained, and {store.address(SERVING)}/{model}/"
                    f"{version} holds trained ones; publish to another tree, or with "
                    "--allow_untrained"
                )
