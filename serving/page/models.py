"""The models that the page offers, and their versions on a server.

TF Serving's API lists the versions of a model, but not the models.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from ..attention.models import AttentionError
from ..client import Client
from ..client.channels import ClientError
from ..errors import Code, ServingError
from ..model_server.servables.storage import version_number

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
        from ..model_server.servables.config import read_config

        try:
            names = [model.name for model in read_config(str(path)).model_config_list.config]
        except ServingError as error:
            raise ValueError(error.message) from error
    if not names:
        raise ValueError(f"{path}: names no model; expected <model>/<version>/ or a models config")
    return sorted(names)


def list_models(server: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the named models that a server has, with their versions, the latest first.

    Returns:
        `{"name": ..., "versions": [{"version": ..., "state": ..., "error": ...}, ...]}` for each;
        unloaded versions are left out, unless they failed.

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
        versions = [
            {"version": entry.version, "state": entry.state, "error": entry.error}
            for entry in statuses
            if entry.state not in _GONE or entry.error
        ]
        models.append({"name": name, "versions": versions})
    if not models:
        raise AttentionError("missing", f"{server} serves none of {', '.join(names)}")
    return models


def _has_versions(directory: pathlib.Path) -> bool:
    return directory.is_dir() and any(
        version_number(entry.name) is not None for entry in directory.iterdir()
    )
