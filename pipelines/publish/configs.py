"""What the pipeline writes around its models, by way of `serving_configs`."""

import dataclasses
import pathlib
import tempfile
from typing import Any

from export.errors import UserError, one_line
from serving_configs.errors import ConfigError
from serving_configs.server.models_config import parse_models_config
from serving_configs.tree.paths import LABELS, MODELS_CONFIG, SBOM
from serving_configs.tree.published import Accuracy

from ..elements import ModelReport, StagedModel
from ..store.base import Store, read


def serving_facts(staged: StagedModel, report: ModelReport) -> dict[str, Any]:
    """What pages, configs and deployment files need of a version, for its manifest."""
    variant = staged.variant
    accuracy = (
        Accuracy(variant.top1, variant.top5, variant.flops_g)
        if staged.has_published_accuracy
        else None
    )
    return {
        "geometry": dataclasses.asdict(staged.config.geometry),
        "images": report.images,
        "published": dataclasses.asdict(accuracy) if accuracy else None,
        "measured": dataclasses.asdict(report.measured) if report.measured else None,
    }


def serving_files(staged: StagedModel, report: ModelReport) -> dict[str, bytes]:
    """The files beside a model: path in the version -> content.

    They are its batching parameters and warm-up requests, where its speed was measured, the
    software that made it, and of a classifier the names of its classes.
    """
    from .software import bill_of_materials

    files = {SBOM: bill_of_materials()}
    if staged.head == "classifier":
        files[LABELS] = "".join(f"{name}\n" for name in staged.checkpoint.class_names).encode()
    if report.measured is None:
        return files
    from ..gate.latency import write_serving_files

    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        write_serving_files(
            directory, staged.model, staged.head, staged.config.geometry, report.measured
        )
        return files | {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }


def require_config(store: Store) -> None:
    """Reads the `models.config` that a tree may have, before a run adds its models to it.

    Raises:
        UserError: it is there and cannot be read, or is not one that can be edited here.
    """
    try:
        parse_models_config(read(store, MODELS_CONFIG), store.address(MODELS_CONFIG))
    except (FileNotFoundError, NotADirectoryError):
        return
    except ConfigError as error:
        raise UserError(f"{error}; mend it, or remove it for a new one") from None
    except OSError as error:
        raise UserError(
            f"{store.address(MODELS_CONFIG)}: cannot be read ({one_line(error)})"
        ) from None


def write_configs(
    publish_to: str,
    publisher: str,
    hub_url: str | None = None,
    base_path: str | None = None,
    archives: bool = True,
) -> None:
    """Writes configs, deployment files, archives and pages of everything that is published.

    Args:
        publish_to: root of the published tree, on a disk.
        publisher: the publisher's name in hub handles.
        hub_url: where the hub's directory can be read, for the pages; None as in
            `serving_configs.write.Settings`.
        base_path: as in `serving_configs.write.Settings`.
        archives: as there.

    Raises:
        UserError: something in the tree is not as it should be.
    """
    from serving_configs.write import Settings, write_all

    try:
        write_all(publish_to, Settings(publisher, hub_url, base_path, archives=archives))
    except ConfigError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from None
