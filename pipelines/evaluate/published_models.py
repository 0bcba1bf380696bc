"""The classifiers of a published tree."""

import hashlib
import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

from export.errors import UserError
from serving_configs import MANIFEST

from .scores import ServedModel


def find_classifiers(
    serving_root: str, variants: Collection[str] | None, versions: Collection[int] | str
) -> tuple[ServedModel, ...]:
    """Finds the published classifiers, by the manifests of their versions.

    Args:
        serving_root: directory with a base path for each model.
        variants: names of those to take; None for all.
        versions: numbers of those to take, or `latest` or `all`.

    Raises:
        UserError: there is none of them.
    """
    found: list[tuple[pathlib.Path, dict[str, Any]]] = []
    for base in _directories(serving_root):
        numbers = {
            int(entry.name): entry
            for entry in base.iterdir()
            if entry.name.isdecimal() and (entry / "saved_model.pb").is_file()
        }
        if versions == "latest":
            taken = sorted(numbers)[-1:]
        else:
            taken = [n for n in sorted(numbers) if versions == "all" or n in versions]
        for number in taken:
            manifest = _manifest(numbers[number])
            # A directory without one was put there by another program.
            if (
                manifest is not None
                and manifest["head"] == "classifier"
                and (variants is None or manifest["variant"] in variants)
            ):
                found.append((numbers[number], manifest))
    missing = set(variants or ()) - {manifest["variant"] for _, manifest in found}
    if missing or not found:
        what = ", ".join(sorted(missing)) or "any variant"
        raise UserError(
            f"--models {serving_root}: no published classifier of {what} with the versions asked "
            "for; expected <model>/<version> directories as pipelines.publish writes them"
        )
    return tuple(
        ServedModel(
            path.parent.name, int(path.name), manifest["variant"], str(path), model_digest(path)
        )
        for path, manifest in found
    )


def model_digest(directory: pathlib.Path) -> str:
    """SHA-256 of the files of a SavedModel that have a part in what it answers."""
    digest = hashlib.sha256()
    names = ["saved_model.pb"]
    for part in ("variables", "assets"):
        names += sorted(
            path.relative_to(directory).as_posix()
            for path in (directory / part).rglob("*")
            if path.is_file()
        )
    for name in names:
        with (directory / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _directories(serving_root: str) -> Iterator[pathlib.Path]:
    root = pathlib.Path(serving_root).absolute()
    if not root.is_dir():
        raise UserError(
            f"--models {serving_root}: no such directory; expected <publish_to>/serving of "
            "pipelines.publish"
        )
    yield from sorted(entry for entry in root.iterdir() if entry.is_dir())


def _manifest(version: pathlib.Path) -> dict[str, Any] | None:
    path = version / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest["head"], manifest["variant"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected a manifest as "
            "pipelines.publish writes it"
        ) from None
    return manifest
