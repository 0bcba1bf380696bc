"""What is known of a published version: its manifest, for those who write files around it."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from signatures import Geometry, Head

from .batching import Measured
from .errors import ConfigError
from .tree import MANIFEST


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Published figures of a variant.

    Attributes:
        top1: accuracy on ImageNet-1k's validation set in percent.
        top5: the same among five classes.
        flops_g: multiply-adds of one image in units of 1e9.
    """

    top1: float
    top5: float
    flops_g: float


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A published version, for its page, its archive and its deployment.

    Attributes:
        directory: the version's.
        model: the model's name.
        version: its number.
        variant: name of the variant.
        head: which model of it.
        geometry: its sizes.
        parameters: number of parameters.
        trained: False for weights made by rule.
        source: where the weights came from.
        sha256: of the weights' file.
        worst: largest difference of the main output from the reference; None if not compared.
        images: images compared by the gate.
        accuracy: published figures, None for a variant without any.
        measured: latency and memory on the gate's machine, None where they were not measured.
    """

    directory: pathlib.Path
    model: str
    version: int
    variant: str
    head: Head
    geometry: Geometry
    parameters: int
    trained: bool
    source: str
    sha256: str
    worst: float | None
    images: int
    accuracy: Accuracy | None
    measured: Measured | None

    @property
    def main_output(self) -> str:
        """The output of `serving_default`."""
        return "logits" if self.head == "classifier" else "features"


def read_published(directory: pathlib.Path) -> PublishedModel:
    """What a version's manifest says of it.

    Raises:
        ConfigError: there is no manifest, or it lacks something.
    """
    path = directory / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        return _from_manifest(directory, content)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: {error} is missing or wrong; publish the model again with this version"
        ) from None


def _from_manifest(directory: pathlib.Path, content: Mapping[str, Any]) -> PublishedModel:
    head: Head = content["head"]
    output = "logits" if head == "classifier" else "features"
    worst = [
        float(figure["difference"])
        for figure in content["gate"]
        if (figure["signature"], figure["output"]) == ("serving_default", output)
    ]
    checkpoint, published, measured = (
        content["checkpoint"],
        content["published"],
        content["measured"],
    )
    return PublishedModel(
        directory=directory,
        model=content["model"],
        version=int(directory.name),
        variant=content["variant"],
        head=head,
        geometry=Geometry(**content["geometry"]),
        parameters=content["parameters"],
        trained=checkpoint["trained"],
        source=checkpoint["source"],
        sha256=checkpoint["sha256"],
        worst=max(worst, default=None),
        images=content["images"],
        accuracy=Accuracy(**published) if published else None,
        measured=Measured(**measured) if measured else None,
    )
