"""Paths and versions of the published tree, as pure functions.

<publish_to>/serving/<model>/<version>/    a SavedModel, base path and version of TF Serving
<publish_to>/report.{json,md}
<publish_to>/.staging/<run>/               never inside a model's base path
"""

import pathlib
from collections.abc import Iterable

MANIFEST = pathlib.PurePosixPath("assets.extra/manifest.json")
"""The manifest inside a version."""


def serving_root(publish_to: str) -> pathlib.Path:
    """The directory that holds every model's base path."""
    return pathlib.Path(publish_to) / "serving"


def base_path(publish_to: str, model: str) -> pathlib.Path:
    """A model's base path, as TF Serving calls it."""
    return serving_root(publish_to) / model


def staging_root(publish_to: str) -> pathlib.Path:
    """Where runs keep what is not published yet; on the file system of what is."""
    return pathlib.Path(publish_to) / ".staging"


def report_path(publish_to: str, suffix: str) -> pathlib.Path:
    """The report of the last run; `suffix` is `json` or `md`."""
    return pathlib.Path(publish_to) / f"report.{suffix}"


def hub_handle(publisher: str, model: str, version: int) -> str:
    """The handle of a published model in the hub's form."""
    return f"{publisher}/{model}/{version}"


def next_version(names: Iterable[str]) -> int:
    """The first free version above all that are taken.

    Args:
        names: entries of a base path. Those that are no number are not versions, as for TF
            Serving, to which `1` and `001` are the same one.
    """
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
