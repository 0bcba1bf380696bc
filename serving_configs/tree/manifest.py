"""A version's manifest: the model, its origin, and every file.

The manifest is written after all other files of a version. A directory without one is not a version
to any reader of this project.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from signatures import Geometry, Head, signatures_for
from signatures.labels import default_labels

from .files import (
    FileRecord,
    content_problems,
    foreign_entries,
    open_file,
    record_files,
)
from .paths import MANIFEST, VERSION_BATCHING, is_version, serving_root

_FORMAT = 1
FOR_SERVERS = (f"{MANIFEST.parent}/", VERSION_BATCHING)
"""Prefixes of the paths of files that are written for servers and are not parts of the model."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ManifestError(Exception):
    """A manifest is not valid. The message is one line that says why."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Where a model's weights came from.

    Attributes:
        source: the origin, in words.
        sha256: of the file of the weights, in hexadecimal.
        trained: False for random weights.
        kind: `model` for weights as trained, `ema` for their moving average.
        notes: what was done to read the file, a line for each.
    """

    source: str
    sha256: str
    trained: bool
    kind: str = "model"
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A description of a version. JSON keeps all of it unchanged.

    Attributes:
        model: the model's name.
        version: the number.
        variant: name of the variant.
        head: the model's head.
        geometry: the model's sizes.
        parameters: number of parameters.
        checkpoint: the origin of the weights.
        contract: `contract_digest` when the model was published.
        software: package -> its version when the model was published.
        files: every file but the manifest and its signature.
        gate: the worst difference of each output: `signature`, `output`, `difference`, `bound` and
            `image`.
        images: number of images that the gate compared.
        published: `top1`, `top5` in percent and `flops_g`, as published for the variant.
        measured: latency and memory on the publisher's machine, where they were measured.
        run: name of the run that published the version.
        compute_dtype: the type in which the signatures compute products.
        profile: the load that the signatures are built for, `latency` or `throughput`.
        labels: names of the classes; empty for ImageNet's, or numbers where there are not as many;
            None in manifests from before they were recorded.
    """

    model: str
    version: int
    variant: str
    head: Head
    geometry: Geometry
    parameters: int
    checkpoint: Weights
    contract: str
    software: Mapping[str, str]
    files: tuple[FileRecord, ...]
    gate: tuple[Mapping[str, Any], ...] = ()
    images: int = 0
    published: Mapping[str, float] | None = None
    measured: Mapping[str, Any] | None = None
    run: str = ""
    compute_dtype: str = "float32"
    profile: str = "latency"
    labels: tuple[str, ...] | None = None

    @property
    def base_name(self) -> str:
        """The name that the classifier and the feature extractor of the same weights share."""
        return self.model.removesuffix("_fe") if self.head == "features" else self.model

    @property
    def has_own_name(self) -> bool:
        """Whether the model is named otherwise than its variant: its weights are somebody's own."""
        return self.base_name != self.variant

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by number; the default ones where none were recorded."""
        return self.labels or default_labels(self.geometry.num_classes)

    @property
    def content(self) -> str:
        """Digest of the model itself: the same for the same weights and graph in every run.

        Versions of a model with the same content are the same publication. Files for servers are
        left out: they depend on the speed of the publisher's machine.
        """
        records = [
            dataclasses.astuple(record)
            for record in sorted(self.files)
            if not record.path.startswith(FOR_SERVERS)
        ]
        return _digest([self.model, records])


def contract_digest(head: Head, geometry: Geometry) -> str:
    """Digest of the signatures, with their shapes, of a model with this head and these sizes.

    The descriptions are left out: a change of them does not change a model.
    """
    contract = {
        name: {
            "method": signature.method,
            "inputs": [(t.name, t.dtype, t.resolve(geometry)) for t in signature.inputs],
            "outputs": [(t.name, t.dtype, t.resolve(geometry)) for t in signature.outputs],
        }
        for name, signature in signatures_for(head, geometry).items()
    }
    return _digest(contract)


def render_manifest(manifest: Manifest) -> str:
    """The manifest as JSON, with a digest of itself as its seal, which reveals every change."""
    content = {"format": _FORMAT, "content": manifest.content, **dataclasses.asdict(manifest)}
    return _as_text({**content, "seal": _digest(content)})


def parse_manifest(text: str | bytes) -> Manifest:
    """Parses what `render_manifest` returned; the only reader of manifests.

    Raises:
        ManifestError: the text is not JSON, was changed after it was written, or lacks a field.
    """
    try:
        content = json.loads(text)
        as_rendered = _as_text(content).encode()
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ManifestError(f"a JSON {type(content).__name__}; expected an object")
    seal = content.pop("seal", None)
    if seal != _digest(content) or as_rendered != (
        text.encode() if isinstance(text, str) else text
    ):
        raise ManifestError("the seal does not match: the file was changed after it was written")
    if content.get("format") != _FORMAT:
        raise ManifestError(f"of format {content.get('format')}; expected {_FORMAT}")
    try:
        return _from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{type(error).__name__}: {error} is missing or wrong") from None


def load_manifest(directory: pathlib.Path) -> Manifest:
    """Reads the manifest of a version on a disk.

    Raises:
        ManifestError: there is no valid manifest. The message names the file.
    """
    path = directory / MANIFEST
    try:
        with open_file(path) as file:
            return parse_manifest(file.read())
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def version_problems(directory: pathlib.Path, modes: bool = True) -> list[str]:
    """The defects of a version on a disk, a line for each; every file is read.

    Args:
        directory: `.../<model>/<version>`.
        modes: whether other permissions than those that a publish run gives are defects.
    """
    try:
        manifest = load_manifest(directory)
        problems = identity_problems(manifest, directory.parent.name, directory.name)
        foreign = [e for e in foreign_entries(directory) if modes or e.kind != "mode"]
        return problems + content_problems(manifest.files, record_files(directory), foreign)
    except ManifestError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename} cannot be read ({error.strerror})"]


def identity_problems(manifest: Manifest, model: str, version: str) -> list[str]:
    """The differences between a manifest's model and version and those of its path."""
    problems = []
    if manifest.model != model:
        problems.append(f"the manifest is of model {manifest.model}; expected {model}")
    if str(manifest.version) != version:
        problems.append(f"the manifest is of version {manifest.version}; expected {version}")
    return problems


def published_versions(publish_to: str) -> dict[str, list[int]]:
    """Model -> its versions with a manifest, ascending; models without such versions are left out.

    Args:
        publish_to: a published tree on a disk.
    """
    root = serving_root(publish_to)
    found = {}
    for base in sorted(root.iterdir()) if root.is_dir() else ():
        versions = sorted(
            int(entry.name)
            for entry in (base.iterdir() if base.is_dir() else ())
            if is_version(entry.name) and (entry / MANIFEST).is_file()
        )
        if versions:
            found[base.name] = versions
    return found


def _from_json(content: Mapping[str, Any]) -> Manifest:
    head = content["head"]
    if head not in ("classifier", "features"):
        raise ValueError(f"head {head!r}")
    for digest in (content["contract"], *(record["sha256"] for record in content["files"])):
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"digest {digest!r}")
    for record in content["files"]:
        if not isinstance(record["path"], str) or not isinstance(record["size"], int):
            raise ValueError(f"file {record!r}")
    fields = {field.name for field in dataclasses.fields(Manifest)}
    return Manifest(
        **{
            # Older manifests lack the fields that were added later.
            **{name: content[name] for name in fields if name in content},
            "geometry": Geometry(**content["geometry"]),
            "checkpoint": _weights(content["checkpoint"]),
            "files": tuple(FileRecord(**record) for record in content["files"]),
            "gate": tuple(content["gate"]),
            "labels": None if content.get("labels") is None else tuple(content["labels"]),
        }
    )


def _weights(content: Mapping[str, Any]) -> Weights:
    return Weights(**{**content, "notes": tuple(content.get("notes", ()))})


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
