"""The command `status`: what is published, which version has which label, what a server serves."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from signatures.quiet import load_tensorflow

from .errors import ConfigError
from .server.models_config import (
    CANARY,
    PREVIOUS,
    STABLE,
    labels_of,
    models_config_path,
    read_models_config,
    versions_of,
)
from .tree.manifest import ManifestError, load_manifest
from .tree.paths import version_directory
from .tree.published import require_versions
from .trust.check import read_signature, trusted_keys, version_signature_problem

_CALL_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version, in the tree or on a server.

    Attributes:
        model: the model's name.
        version: its number.
        labels: labels that models.config gives it.
        named: whether models.config lets servers load it.
        weights: `trained`, or `untrained` for random weights; empty where it is not in the tree.
        classes: number of classes; 0 for a feature extractor, or where it is not in the tree.
        image_size: side of its images in pixels; 0 where it is not in the tree.
        compute_dtype: the type in which the signatures compute products.
        profile: the load that the signatures are built for; empty where it is not in the tree.
        signature: `signed` by a key of the tree, `not signed`, `signed by another key` or
            `unchecked` where the tree has no keys; empty where it is not in the tree. The files
            themselves are not read.
        servers: HOST:PORT -> the state there, such as AVAILABLE; `-` where it is not loaded.
        server_labels: HOST:PORT -> labels of `models.config` that the server gives it, too.
    """

    model: str
    version: int
    labels: tuple[str, ...] = ()
    named: bool = False
    weights: str = ""
    classes: int = 0
    image_size: int = 0
    compute_dtype: str = ""
    profile: str = ""
    signature: str = ""
    servers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    server_labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fields, as they are."""
        return dataclasses.asdict(self)


def tree_status(publish_to: str, servers: Sequence[str] = ()) -> list[VersionStatus]:
    """Every version of a tree and of running servers, by model and number.

    Args:
        publish_to: root of the published tree.
        servers: HOST:PORT of running servers.

    Raises:
        ConfigError: nothing is published there, or a server cannot be reached.
    """
    published = require_versions(publish_to)
    if servers:
        # The messages to servers need TensorFlow, which takes seconds to load.
        load_tensorflow(set_up_devices=False)
        from .rollout.servers import Server

    found = {(v.model, v.version): v for v in _published(publish_to, published)}
    # A server can't be asked which labels it has, only for the version of one.
    candidates = {
        model: {STABLE, CANARY, PREVIOUS}.union(
            *(v.labels for v in found.values() if v.model == model)
        )
        for model in published
    }
    for address in servers:
        server = Server(address, _CALL_SECONDS)
        try:
            states = {
                (model, number): state
                for model in published
                for number, state in server.states(model).items()
            }
            labels = {
                (model, number, label)
                for model in {model for model, _ in states}
                for label, number in server.labels(model, sorted(candidates[model])).items()
            }
        finally:
            server.close()
        for key in states.keys() - found.keys():
            found[key] = VersionStatus(*key)
        for key, version in found.items():
            its_labels = tuple(sorted(label for *named, label in labels if tuple(named) == key))
            found[key] = dataclasses.replace(
                version,
                servers={**version.servers, address: states.get(key, "-")},
                server_labels={**version.server_labels, address: its_labels},
            )
    return [found[key] for key in sorted(found)]


def table(versions: Sequence[VersionStatus]) -> list[tuple[str, ...]]:
    """A row of column names, then a row for each version."""
    servers = list(versions[0].servers) if versions else []
    header = ("model", "version", "labels", "weights", "classes", "pixels", "computes", "signature")
    return [(*header, *servers), *(_row(version, servers) for version in versions)]


def _row(version: VersionStatus, servers: Sequence[str]) -> tuple[str, ...]:
    unlabelled = "no label" if version.named else "not in models.config"
    return (
        version.model,
        str(version.version),
        (", ".join(version.labels) or unlabelled) if version.weights else "not published here",
        version.weights or "-",
        str(version.classes or "-"),
        str(version.image_size or "-"),
        _computes(version) or "-",
        version.signature or "-",
        *(_on_server(version, address) for address in servers),
    )


def _computes(version: VersionStatus) -> str:
    several = version.profile == "throughput"
    return f"{version.compute_dtype}, {version.profile}" if several else version.compute_dtype


def _on_server(version: VersionStatus, address: str) -> str:
    labels = ", ".join(version.server_labels[address])
    return f"{version.servers[address]} ({labels})" if labels else version.servers[address]


def _published(publish_to: str, published: Mapping[str, Sequence[int]]) -> Iterator[VersionStatus]:
    config = read_models_config(models_config_path(publish_to))
    entries = {entry.name: entry for entry in config.model_config_list.config}
    keys = trusted_keys(publish_to)
    for model, versions in published.items():
        entry = entries.get(model)
        labels = labels_of(entry) if entry else {}
        for number in versions:
            directory = version_directory(publish_to, model, number)
            try:
                manifest = load_manifest(directory)
            except ManifestError as error:
                raise ConfigError(f"{error}; python -m pipelines.verify checks the tree") from None
            if keys:
                problem = version_signature_problem(directory, keys)
                signature = "signed" if problem is None else problem
            else:
                signature = "unchecked" if read_signature(directory) else "not signed"
            yield VersionStatus(
                model,
                number,
                tuple(label for label, version in labels.items() if version == number),
                entry is not None and number in versions_of(entry),
                "trained" if manifest.checkpoint.trained else "untrained",
                manifest.geometry.num_classes if manifest.head == "classifier" else 0,
                manifest.geometry.image_size,
                manifest.compute_dtype,
                manifest.profile,
                signature,
            )
