"""What is known of a published version: its manifest, for those who write files around it."""

import dataclasses
import pathlib

from signatures import Geometry, Head

from ..errors import ConfigError
from .evaluation import Evaluation
from .latency import LatencyProfile
from .manifest import Manifest, ManifestError, load_manifest
from .paths import MANIFEST

IMAGENET_CLASSES = 1000


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
        evaluation: accuracy of this version, None where it was not measured.
        compute_dtype: what the signatures' products are computed in.
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
    measured: LatencyProfile | None
    evaluation: Evaluation | None = None
    compute_dtype: str = "float32"

    @property
    def main_output(self) -> str:
        """The output of `serving_default`."""
        return "logits" if self.head == "classifier" else "features"

    @property
    def knows_imagenet(self) -> bool:
        """Whether its classes, or those of the classifier beside it, are ImageNet-1k's."""
        return self.geometry.num_classes == IMAGENET_CLASSES


def read_published(directory: pathlib.Path) -> PublishedModel:
    """What a version's manifest says of it.

    Raises:
        ConfigError: there is no manifest, or it cannot be used.
    """
    try:
        manifest = load_manifest(directory)
        return _from_manifest(directory, manifest)
    except ManifestError as error:
        raise ConfigError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{directory / MANIFEST}: {error} is missing or wrong") from None


def _from_manifest(directory: pathlib.Path, manifest: Manifest) -> PublishedModel:
    output = "logits" if manifest.head == "classifier" else "features"
    worst = [
        float(figure["difference"])
        for figure in manifest.gate
        if (figure["signature"], figure["output"]) == ("serving_default", output)
    ]
    return PublishedModel(
        directory=directory,
        model=manifest.model,
        version=manifest.version,
        variant=manifest.variant,
        head=manifest.head,
        geometry=manifest.geometry,
        parameters=manifest.parameters,
        trained=manifest.checkpoint.trained,
        source=manifest.checkpoint.source,
        sha256=manifest.checkpoint.sha256,
        worst=max(worst, default=None),
        images=manifest.images,
        accuracy=Accuracy(**manifest.published) if manifest.published else None,
        measured=LatencyProfile(**manifest.measured) if manifest.measured else None,
        compute_dtype=manifest.compute_dtype,
    )
