"""A published version, as the files around it describe it."""

import dataclasses
import pathlib

from ..errors import ConfigError
from .evaluation import Evaluation, read_evaluations
from .latency import LatencyProfile
from .manifest import Manifest, ManifestError, load_manifest, published_versions
from .paths import MANIFEST, serving_root, version_directory

IMAGENET_CLASSES = 1000


def require_versions(publish_to: str) -> dict[str, list[int]]:
    """`published_versions` of a tree that has some.

    Raises:
        ConfigError: nothing is published there.
    """
    published = published_versions(publish_to)
    if not published:
        raise ConfigError(
            f"{serving_root(publish_to)}: no published version; expected <model>/<version> with a "
            "manifest"
        )
    return published


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Published figures of a variant.

    Attributes:
        top1: top-1 accuracy on ImageNet-1k's validation set in percent.
        top5: top-5 accuracy.
        flops_g: multiply-adds of one image in units of 1e9.
    """

    top1: float
    top5: float
    flops_g: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedModel(Manifest):
    """The manifest of a published version, and what else is known of it.

    Attributes:
        directory: the version's directory.
        evaluation: measured accuracy of this version; None where it was not measured.
    """

    directory: pathlib.Path
    evaluation: Evaluation | None = None

    @property
    def trained(self) -> bool:
        """False for random weights."""
        return self.checkpoint.trained

    @property
    def main_output(self) -> str:
        """The output of `serving_default`."""
        return "logits" if self.head == "classifier" else "features"

    @property
    def worst(self) -> float | None:
        """Largest difference of the main output from the reference; None if not compared."""
        main = ("serving_default", self.main_output)
        figures = [f for f in self.gate if (f["signature"], f["output"]) == main]
        return max((float(figure["difference"]) for figure in figures), default=None)

    @property
    def accuracy(self) -> Accuracy | None:
        """Published figures; None for a variant without any."""
        return Accuracy(**self.published) if self.published else None

    @property
    def latency_profile(self) -> LatencyProfile | None:
        """Latency and memory on the gate's machine; None where they were not measured."""
        return LatencyProfile(**self.measured) if self.measured else None

    @property
    def has_classes(self) -> bool:
        """Whether the weights have a classification head."""
        return self.geometry.num_classes > 0

    @property
    def knows_imagenet(self) -> bool:
        """Whether the classes of the weights are ImageNet-1k's."""
        return self.geometry.num_classes == IMAGENET_CLASSES and not self.labels


def read_published(directory: pathlib.Path) -> PublishedModel:
    """Reads a version's manifest.

    Raises:
        ConfigError: there is no valid manifest.
    """
    try:
        model = PublishedModel(directory=directory, **vars(load_manifest(directory)))
        # They are read from dictionaries.
        _ = model.worst, model.accuracy, model.latency_profile
    except ManifestError as error:
        raise ConfigError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{directory / MANIFEST}: {error} is missing or wrong") from None
    return model


def read_models(publish_to: str) -> dict[str, list[PublishedModel]]:
    """Model -> its versions, ascending, with what was measured of each.

    Raises:
        ConfigError: a version has no valid manifest.
    """
    evaluations = read_evaluations(publish_to)
    models: dict[str, list[PublishedModel]] = {}
    for name, versions in published_versions(publish_to).items():
        for version in versions:
            directory = version_directory(publish_to, name, version)
            try:
                model = read_published(directory)
            except ConfigError:
                if not directory.exists():
                    continue  # Another run has just removed this old version.
                raise
            evaluation = evaluations.get((name, version))
            models.setdefault(name, []).append(dataclasses.replace(model, evaluation=evaluation))
    return models
