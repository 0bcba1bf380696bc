"""Names and versions in the published tree, as pure functions.

Constants and `version_path` are relative to the root, with `/` between their parts.
"""

import pathlib
import re
from collections.abc import Iterable

SERVING = "serving"  # every model's base path, and the files for servers
HUB = "hub"  # archives, pages and metadata
DEPLOYMENT = "deployment"
STAGING = ".staging"  # never inside a model's base path
EVALUATION = "evaluation/evaluation.json"
MODELS_CONFIG = f"{SERVING}/models.config"
BATCHING_PARAMETERS = f"{SERVING}/batching_parameters.txt"
MONITORING_CONFIG = f"{SERVING}/monitoring.config"

RESERVED = frozenset({"cait", "collections"})
"""Names in handles and paths of the hub that are not models'."""

# Inside a version.
SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables"
MANIFEST = pathlib.PurePosixPath("assets.extra/manifest.json")
SIGNATURE = pathlib.PurePosixPath("assets.extra/model.sig")
SBOM = "assets.extra/sbom.cdx.json"  # the software that made the version
LABELS = "assets.extra/labels.txt"  # of a classifier: the names of its classes, one on a line
VERSION_BATCHING = "batching_params.pbtxt"

NAME_LENGTHS = (3, 47)
"""Shortest and longest name of a classifier. With `_fe` it is 50 characters, as Kaggle's slugs."""

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


def name_problem(name: str) -> str:
    """What keeps a name from being a classifier's, and what is expected; empty for a good name.

    A good one is taken by TF Serving's REST API, whose names end at `/` and `:`; by Kubernetes, for
    a Service (RFC 1035) once its `_` are `-`; by TF-Hub's handles and Kaggle's slugs; and by
    Hugging Face's repositories, which have no `--`.
    """
    shortest, longest = NAME_LENGTHS
    wrong = sorted(set(re.sub(r"[a-z0-9_-]", "", name)))
    if wrong:
        found = f"has {' '.join(map(repr, wrong))}"
    elif not shortest <= len(name) <= longest:
        found = f"has {len(name)} characters"
    elif not _NAME.fullmatch(name):
        found = "begins or ends otherwise, or has two separators in a row"
    elif re.search(r"[_-]fe$", name):
        return "ends as names of feature extractors do; expected another end"
    elif name in RESERVED:
        return "is a name that the tree uses itself; expected another"
    else:
        return ""
    return (
        f"{found}; expected {shortest} to {longest} lower-case letters, digits, '_' and '-', a "
        "letter first, a letter or digit last, no two '_' or '-' in a row"
    )


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


def is_version(name: str) -> bool:
    """Whether an entry of a base path is named as a published version is: 1, and not 01."""
    return name.isdecimal() and name == str(int(name))


def next_version(names: Iterable[str]) -> int:
    """The first free version above all that are taken.

    Args:
        names: entries of a base path. Only decimal numbers are versions. To TF Serving `1` and
            `001` are the same version.
    """
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
