"""Names and versions in the published tree, as pure functions.

Constants and `version_path` are relative to the root, with `/` between their parts.
"""

import pathlib
from collections.abc import Iterable

SERVING = "serving"  # every model's base path, and the files for servers
HUB = "hub"  # archives, pages and metadata
DEPLOYMENT = "deployment"
STAGING = ".staging"  # never inside a model's base path
EVALUATION = "evaluation/evaluation.json"
MODELS_CONFIG = f"{SERVING}/models.config"
BATCHING_PARAMETERS = f"{SERVING}/batching_parameters.txt"
MONITORING_CONFIG = f"{SERVING}/monitoring.config"

# Inside a version.
SAVED_MODEL = "saved_model.pb"
MANIFEST = pathlib.PurePosixPath("assets.extra/manifest.json")
SIGNATURE = pathlib.PurePosixPath("assets.extra/model.sig")
SBOM = "assets.extra/sbom.cdx.json"  # the software that made the version
VERSION_BATCHING = "batching_params.pbtxt"


def serving_root(publish_to: str | pathlib.Path) -> pathlib.Path:
    """The directory of all base paths."""
    return pathlib.Path(publish_to) / SERVING


def base_path(publish_to: str, model: str) -> pathlib.Path:
    """A model's base path, as TF Serving calls it."""
    return serving_root(publish_to) / model


def version_path(model: str, version: int | str) -> str:
    """A version's path in the tree."""
    return f"{SERVING}/{model}/{version}"


def version_directory(publish_to: str, model: str, version: int) -> pathlib.Path:
    """A version's directory, a SavedModel."""
    return pathlib.Path(publish_to, version_path(model, version))


def hub_handle(publisher: str, model: str, version: int) -> str:
    """The handle of a published model in the hub's form."""
    return f"{publisher}/{model}/{version}"


def next_version(names: Iterable[str]) -> int:
    """The first free version above all that are taken.

    Args:
        names: entries of a base path. Only decimal numbers are versions. To TF Serving `1` and
            `001` are the same version.
    """
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
