"""The models that the page offers, and their versions on a server.

TF Serving's API lists the versions of a model, but not the models.
"""

import contextlib
import pathlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from serving_configs.server.models_config import CANARY, PREVIOUS, STABLE
from serving_configs.tree.paths import MODELS_CONFIG

from ..attention.models import AttentionError
from ..client import Client
from ..client.channels import ClientError
from ..errors import Code, ServingError
from ..model_server.servables.storage import version_number

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

STATUS_TIMEOUT = 5.0
"""Seconds for a status call."""

_GONE = ("UNLOADING", "END")


def names_from(path: pathlib.Path) -> list[str]:
    """The names of models, sorted.

    Args:
        path: a directory of base paths, such as `build/published/serving`, where every directory
            with a version counts; or a models config.

    Raises:
        ValueError: the path does not exist or names no model; one line.
    """
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if _has_versions(entry)]
    else:
        names = [model.name for model in configured(path)]
    if not names:
        raise ValueError(f"{path}: names no model; expected <model>/<version>/ or a models config")
    return sorted(names)


def configured(path: pathlib.Path) -> "list[ModelConfig]":
    """The models of a models config; none where there is no file.

    Args:
        path: the file, or the directory with it.

    Raises:
        ValueError: it cannot be read; one line.
    """
    from ..model_server.servables.config import read_config

    file = path / pathlib.Path(MODELS_CONFIG).name if path.is_dir() else path
    if path.is_dir() and not file.exists():
        return []
    try:
        return list(read_config(str(file)).model_config_list.config)
    except ServingError as error:
        raise ValueError(error.message) from error


def labels_from(path: pathlib.Path) -> set[str]:
    """The labels that versions may have: those of a roll-out, and those of a models config.

    Args:
        path: as in `names_from`, or nothing; the config of a directory is the one in it.

    Raises:
        ValueError: the config cannot be read; one line.
    """
    models = configured(path) if path.exists() else []
    of_config = {label for model in models for label in model.version_labels}
    return {STABLE, CANARY, PREVIOUS} | of_config


def list_models(
    server: str, names: Sequence[str], labels: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Those of the named models that a server has, with their versions, the latest first.

    Args:
        server: its address.
        names: of the models.
        labels: to look for, as a server does not list them.

    Returns:
        `{"name": ..., "versions": [{"version": ..., "state": ..., "error": ..., "labels": [...]},
        ...]}` for each; unloaded versions are left out, unless they failed.

    Raises:
        AttentionError: the server is away, or has none of the models.
    """
    models = []
    for name in names:
        with Client(server, name, timeout=STATUS_TIMEOUT, retries=False) as client:
            try:
                statuses = client.status()
            except ClientError as error:
                if error.code == Code.NOT_FOUND:
                    continue
                if error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    raise AttentionError(
                        "away", f"{server}: no model server answers there ({error.message})"
                    ) from error
                raise AttentionError("failed", str(error)) from error
        shown = [entry for entry in statuses if entry.state not in _GONE or entry.error]
        loaded = any(entry.state == "AVAILABLE" for entry in shown)
        labelled = _labelled(server, name, labels) if loaded else {}
        versions = [
            {
                "version": entry.version,
                "state": entry.state,
                "error": entry.error,
                "labels": sorted(label for label, n in labelled.items() if n == entry.version),
            }
            for entry in shown
        ]
        models.append({"name": name, "versions": versions})
    if not models:
        raise AttentionError("missing", f"{server} serves none of {', '.join(names)}")
    return models


def _labelled(server: str, name: str, labels: Collection[str]) -> dict[str, int]:
    """Label -> the version that a server gives it to; labels that it does not know are left out."""
    found = {}
    for label in labels:
        with (
            Client(server, name, label=label, timeout=STATUS_TIMEOUT, retries=False) as client,
            contextlib.suppress(ClientError),
        ):
            found[label] = client.metadata().version
    return found


def _has_versions(directory: pathlib.Path) -> bool:
    return directory.is_dir() and any(
        version_number(entry.name) is not None for entry in directory.iterdir()
    )
