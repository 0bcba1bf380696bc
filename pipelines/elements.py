"""What travels through the pipelines: names, paths and figures, never weights or tensors."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

from export.checkpoints.sources import Checkpoint
from export.compute import DEFAULT, Compute, ComputeDtype, ServingProfile
from export.variants import CaiTConfig, Variant
from serving_configs import FileRecord
from serving_configs.tree.latency import LatencyProfile
from signatures import Head


@dataclasses.dataclass(frozen=True)
class ConvertTask:
    """One variant to convert.

    Attributes:
        variant: the variant. It travels whole, because a worker knows only the ten of the table.
        heads: which models to make of it.
        checkpoint: its checked weights.
    """

    variant: Variant
    heads: tuple[Head, ...]
    checkpoint: Checkpoint


@dataclasses.dataclass(frozen=True)
class StagedModel:
    """A converted model that waits in the staging area, or why there is none.

    Attributes:
        variant: the variant.
        head: which model of it.
        checkpoint: the weights that it was made from.
        path: the staged SavedModel, in the run's staging.
        files: its files.
        parameters: number of parameters written.
        seconds: by step: `build`, `assign` and `write`; the first two are of all its heads.
        error: why the conversion failed; empty when it did not.
        compute: how the signatures compute.
    """

    variant: Variant
    head: Head
    checkpoint: Checkpoint
    path: str = ""
    files: tuple[FileRecord, ...] = ()
    parameters: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""
    compute: Compute = DEFAULT

    @property
    def model(self) -> str:
        """The model's name."""
        return self.variant.model_name(self.head)

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size for file in self.files)

    @property
    def config(self) -> CaiTConfig:
        """What the model is built from: the variant's, with as many classes as its weights have."""
        return dataclasses.replace(self.variant.config, num_classes=self.checkpoint.num_classes)

    @property
    def has_published_accuracy(self) -> bool:
        """Whether the variant's published figures apply: not to other classes, not to another image
        size, and not where the variant or the model's name is the user's own.
        """
        classes = self.variant.config.num_classes
        of_these = self.config.num_classes == classes and not self.checkpoint.labels
        return bool(self.variant.top1) and of_these


@dataclasses.dataclass(frozen=True)
class StagedVariant:
    """A converted variant: its models, one for each head."""

    models: tuple[StagedModel, ...]

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.models[0].variant.name


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of the sample, or a part of one.

    Attributes:
        path: the file, absolute or a URL.
        images: records in it.
        first: number of its first record in the file.
        attention: numbers of the records whose attention is compared too.
        labelled: records that say their class.
        measure: whether the models are measured after it, which is done once.
        number: its place in the sample.
        stamp: see `runtime.files.InputFile`.
        whole: whether it is the whole file.
        first_label: what the file calls class 0; None for what is usual for its layout.
        converted: names and formats of the images that were neither JPEG nor PNG.
    """

    path: str
    images: int
    attention: tuple[int, ...]
    labelled: int = 0
    measure: bool = False
    number: int = 0
    stamp: str = ""
    first: int = 0
    whole: bool = True
    first_label: int | None = None
    converted: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name, with the numbers of the records where they are not all."""
        name = self.path.rsplit("/", 1)[-1]
        return name if self.whole else f"{name}[{self.first}:{self.first + self.images}]"

    def split(self, images: int) -> Iterator["Shard"]:
        """The shard in parts of at most so many images, of about the same size."""
        parts = -(-self.images // images)
        if parts < 2:
            yield self
            return
        bounds = [self.first + self.images * i // parts for i in range(parts + 1)]
        for first, end in itertools.pairwise(bounds):
            yield dataclasses.replace(self, first=first, images=end - first, whole=False)


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """The worst difference of one output of one signature, over the images compared.

    Attributes:
        signature: the signature's name, or `__call__` for the call as a layer.
        output: the output's name.
        difference: largest absolute difference; for `top1` the number of images that differ.
        bound: the tolerance: what it may be at most.
        image: name of the image where it was largest.
    """

    signature: str
    output: str
    difference: float
    bound: float
    image: str

    @property
    def within_tolerance(self) -> bool:
        """Whether the difference is small enough. NaN never is."""
        return self.difference <= self.bound

    def worse(self, other: "OutputDifference") -> "OutputDifference":
        """The one with the larger difference, NaN being the largest."""
        if math.isnan(self.difference):
            return self
        return other if not other.difference <= self.difference else self

    def __str__(self) -> str:
        return (
            f"{self.signature}: {self.output} differs by {self.difference:.3g} on {self.image}; "
            f"at most {self.bound:.3g} is allowed"
        )


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What the gate found on one shard.

    Attributes:
        figures: the worst of each output.
        images: images compared.
        attention_images: images whose attention was compared too.
        bad_images: names and reasons of those that could not be decoded.
        seconds: by step: `load`, `reference`, `compare` and `measure`.
        measured: latency and memory, where they were measured.
        labelled: images whose class is known, and that a classifier answered.
        correct: those of them whose best class is the right one.
        error: why the gate could not be run; empty when it was.
    """

    figures: tuple[OutputDifference, ...] = ()
    images: int = 0
    attention_images: int = 0
    bad_images: tuple[str, ...] = ()
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    measured: LatencyProfile | None = None
    labelled: int = 0
    correct: int = 0
    error: str = ""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ShardResult":
        """What `dataclasses.asdict` made of a result, read back from JSON."""
        measured = content["measured"]
        return cls(
            **{
                **content,
                "figures": tuple(OutputDifference(**figure) for figure in content["figures"]),
                "bad_images": tuple(content["bad_images"]),
                "measured": LatencyProfile(**measured) if measured else None,
            }
        )


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """Everything that is reported of one model.

    Attributes:
        model: its name.
        variant: the variant's.
        head: which model of it.
        hub_handle: `<publisher>/<model>/<version>`; empty when it was not published.
        version: the version published, None when it was refused.
        path: where it was put.
        parameters: number of parameters.
        bytes: size of all its files.
        worst: largest difference of the logits or features from the reference.
        figures: the worst of each output of each signature.
        images: images compared.
        attention_images: images whose attention was compared too.
        bad_images: those that could not be decoded.
        seconds: by step.
        checkpoint: the weights.
        failures: why it was refused; empty when it was published.
        measured: latency and memory, None where they were not measured.
        labelled: images whose class is known, and that a classifier answered.
        correct: those of them whose best class is the right one.
        unchanged: whether the same content was published before, so that nothing was.
        compute_dtype: what the signatures' products are computed in.
        profile: the load that the signatures are built for.
    """

    model: str
    variant: str
    head: Head
    hub_handle: str
    version: int | None
    path: str
    parameters: int
    bytes: int
    worst: float | None
    figures: tuple[OutputDifference, ...]
    images: int
    attention_images: int
    bad_images: tuple[str, ...]
    seconds: dict[str, float]
    checkpoint: Checkpoint
    failures: tuple[str, ...]
    measured: LatencyProfile | None = None
    labelled: int = 0
    correct: int = 0
    unchanged: bool = False
    compute_dtype: ComputeDtype = "float32"
    profile: ServingProfile = "latency"

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return dataclasses.asdict(self)


def add_seconds(*parts: dict[str, float]) -> dict[str, float]:
    """Sums seconds by step."""
    total: dict[str, float] = {}
    for part in parts:
        for step, seconds in part.items():
            total[step] = total.get(step, 0.0) + seconds
    return total
