"""Writing everything around the versions of a published tree."""

import concurrent.futures
import dataclasses
import os
import pathlib
import time
from collections.abc import Collection, Mapping, Sequence

from .errors import ConfigError
from .hub.archive import archive_name, hub_root, write_archive
from .hub.kaggle import MODEL, instance_metadata, model_metadata, variation
from .hub.pages import collection_path, docs_root, hub_pages
from .hub.site import html_pages, index_page
from .rollout.history import read_history, state_of, write_history
from .server.batching import batching_for, common_parameters
from .server.deployment import write_deployment
from .server.models_config import (
    add_published,
    add_versions,
    as_text,
    models_config_path,
    named_versions,
    read_models_config,
    root_of,
)
from .server.monitoring import MONITORING_TEXT
from .tree.atomic import locked, write_atomically
from .tree.paths import BATCHING_PARAMETERS, MONITORING_CONFIG, serving_root
from .tree.published import PublishedModel, read_models, require_versions
from .tree.settings import SETTINGS, KeptSettings, read_settings
from .trust.check import trusted_keys, version_signature_problem

HUB_URL = "http://localhost:8000"
"""The default URL of the hub's directory, as `python -m http.server` there serves it."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings for the files of a tree.

    Attributes:
        publisher: the publisher's name in hub handles.
        hub_url: URL of the hub's directory; None keeps that of the last write, at first `HUB_URL`.
        base_path: directory of the base paths as servers see it; None keeps that in models.config,
            at first the tree's own.
        archives: whether archives of the hub are written; False for a tree without the models.
        batching: whether servers join requests to batches; None keeps the setting of the
            deployment files, at first False.
        storage_class: class of the volume for the models in Kubernetes, which pods on several nodes
            can read; None keeps that of the last write, at first the cluster's default.
    """

    publisher: str = "cait"
    hub_url: str | None = None
    base_path: str | None = None
    batching: bool | None = None
    archives: bool = True
    storage_class: str | None = None


def write_all(publish_to: str, settings: Settings) -> list[pathlib.Path]:
    """Writes configs, deployment files, archives, pages and metadata for a published tree.

    A second call writes the same files, and no archive again.

    Args:
        publish_to: root of the published tree.
        settings: settings for the files.

    Returns:
        The new archives.

    Raises:
        ConfigError: something in the tree is wrong.
        OSError: a file cannot be written.
    """
    path = models_config_path(publish_to)
    require_versions(publish_to)
    # Reading and writing, so that of two processes the one that read less does not write last.
    with locked(path):
        models = read_models(publish_to)
        kept = _kept(publish_to, settings)
        _write_configs(publish_to, models, settings.base_path, kept)
        url = kept.hub_url or HUB_URL
        write_pages(publish_to, models, settings.publisher, url)
        return write_archives(publish_to, models, settings.publisher) if settings.archives else []


def _kept(publish_to: str, settings: Settings) -> KeptSettings:
    """The settings of the last write, with what this one is given.

    Raises:
        ConfigError: they cannot be read, and this write does not say whether to batch.
    """
    try:
        kept = read_settings(publish_to)
    except ConfigError:
        if settings.batching is None:
            raise
        kept = KeptSettings(settings.batching)
    if settings.batching is not None:
        kept = dataclasses.replace(kept, batching=settings.batching)
    if settings.hub_url is not None:
        kept = dataclasses.replace(kept, hub_url=settings.hub_url.rstrip("/"))
    if settings.storage_class is not None:
        kept = dataclasses.replace(kept, storage_class=settings.storage_class or None)
    return kept


def _write_configs(
    publish_to: str,
    models: Mapping[str, Sequence[PublishedModel]],
    base_path: str | None,
    kept: KeptSettings,
) -> None:
    path = models_config_path(publish_to)
    config = read_models_config(path)
    root = base_path or root_of(config) or str(serving_root(publish_to).absolute())
    published = _servable(publish_to, models, named_versions(config))
    history = read_history(path, config, time.time())
    config = add_published(config, published, root)
    left = {m: [v] for m, v in history.left.items() if v in published.get(m, [])}
    config = add_versions(config, left)
    write_history(path, history.followed_by(state_of(config), time.time()))
    write_atomically(path, as_text(config))
    latest = [versions[-1] for versions in models.values()]
    write_deployment(publish_to, config, latest, kept)
    profiles = [batching_for(model.latency_profile) for model in latest if model.latency_profile]
    tree = pathlib.Path(publish_to)
    written = dataclasses.replace(kept, base_path=root_of(config))
    write_atomically(tree / SETTINGS, written.as_text())
    write_atomically(tree / BATCHING_PARAMETERS, common_parameters(profiles))
    write_atomically(tree / MONITORING_CONFIG, MONITORING_TEXT)


def _servable(
    publish_to: str,
    models: Mapping[str, Sequence[PublishedModel]],
    named: Mapping[str, Collection[int]],
) -> dict[str, list[int]]:
    """Model -> the versions that servers may load: of a signed tree no new one without a signature.

    Another run signs its versions soon after it has published them.
    """
    keys = trusted_keys(publish_to)
    found = {
        name: [
            model.version
            for model in versions
            if model.version in named.get(name, ())
            or not (keys and version_signature_problem(model.directory, keys))
        ]
        for name, versions in models.items()
    }
    return {name: versions for name, versions in found.items() if versions}


def write_archives(
    publish_to: str, models: Mapping[str, Sequence[PublishedModel]], publisher: str
) -> list[pathlib.Path]:
    """Writes the archives of the hub that are not there yet.

    Args:
        publish_to: root of the published tree.
        models: model -> its versions.
        publisher: publisher's name in hub handles.

    Returns:
        The new archives.

    Raises:
        ConfigError: a version is no SavedModel.
        OSError: a file cannot be written.
    """
    hub = hub_root(publish_to)
    every = [model for versions in models.values() for model in versions]
    archives = [hub / archive_name(publisher, model.model, model.version) for model in every]
    # Compression takes most of the time, and releases Python's lock.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        written = list(executor.map(write_archive, [m.directory for m in every], archives))
    return [archive for archive, is_new in zip(archives, written, strict=True) if is_new]


def write_pages(
    publish_to: str, models: Mapping[str, Sequence[PublishedModel]], publisher: str, url: str
) -> None:
    """Writes the pages of the hub, and Kaggle's metadata.

    Args:
        publish_to: root of the published tree.
        models: model -> its versions, the latest last.
        publisher: publisher's name in hub handles.
        url: URL of the hub's directory, without a slash at its end.

    Raises:
        OSError: a file cannot be written.
    """
    hub = hub_root(publish_to)
    every = [model for versions in models.values() for model in versions]
    latest = [versions[-1] for versions in models.values()]
    pages = hub_pages(every, latest, publisher, url)
    for name, text in {**pages, **html_pages(pages)}.items():
        write_atomically(docs_root(publish_to) / name, text)
    write_atomically(hub / "index.html", index_page(f"docs/{collection_path(publisher)}.html"))
    kaggle = hub / "kaggle" / MODEL
    write_atomically(kaggle / "model-metadata.json", model_metadata(publisher, latest))
    for model in latest:
        write_atomically(
            kaggle / variation(model) / "model-instance-metadata.json",
            instance_metadata(publisher, model, url),
        )
