"""Checkpoints: finding, checking and reading a variant's weights.

Every source (`CheckpointSource`) puts a file in timm's key layout, safetensors or PyTorch's `.pth`,
on the local disk. `open_checkpoint` checks the whole file before anything is built from it.
"""

import dataclasses
import hashlib
import math
import pathlib
import uuid
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import safetensors
import safetensors.numpy

from signatures.labels import default_labels

from ..errors import CheckpointError, UserError
from ..variants import CaiTConfig, Variant
from ..weights import Shape, check_shapes
from . import intake
from .files import FileSource
from .hub import HubSource
from .pth import PthTensors
from .random_weights import random_tensors
from .safetensors_file import LazyTensors

# Marks a file of random weights in its header, wherever it is copied.
_TRAINED = "trained"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checked file of weights. It is small: it has no tensors.

    Attributes:
        path: the file.
        source: where it came from, for people.
        sha256: of the file, in hexadecimal.
        trained: False for random weights, also when they are read from a file.
        num_classes: outputs of the head; 0 where the file has no head.
        image_size: side of the images that its positions are for, in pixels.
        kind: the weights as trained, or their moving average.
        notes: what was done to read the file, a line for each.
        labels: names of the classes; empty for ImageNet's, or numbers where there are not as many.
    """

    path: str
    source: str
    sha256: str
    trained: bool
    num_classes: int = 1000
    image_size: int = 224
    kind: intake.WeightsKind = "model"
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, also where they are the default ones."""
        return self.labels or default_labels(self.num_classes)

    def tensors(self) -> "LazyTensors | PthTensors":
        """The tensors; each is read at its look-up."""
        return _read(pathlib.Path(self.path), self.kind)


class CheckpointSource(Protocol):
    """A place from which weights come."""

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        """Puts a variant's file on the local disk.

        Args:
            variant: the variant.
            cache: a directory for a file that the source writes.

        Returns:
            The file, and a description of its source.

        Raises:
            CheckpointError: there is no such file.
        """

    def architecture(self) -> Variant | None:
        """The variant that the source itself describes, which may be one of the user's own; None
        where it has those that it is asked for.

        Raises:
            CheckpointError: what describes it cannot be read, or describes something else.
        """

    @property
    def trained(self) -> bool:
        """Whether the weights of this source are trained."""


@dataclasses.dataclass(frozen=True)
class RandomSource:
    """The weights of `random_weights`, written to a file first."""

    trained: bool = False

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        path = cache / f"{variant.name}.safetensors"
        if not path.is_file():
            # Another worker of the host may write it at the same time.
            temporary = path.with_name(f".{uuid.uuid4().hex}")
            write_random_checkpoint(variant, temporary)
            temporary.rename(path)
        return path, "random"

    def architecture(self) -> Variant | None:
        return None


def checkpoint_source(value: str, revision: str | None = None) -> CheckpointSource:
    """The source that a value of `--checkpoints` names.

    Args:
        value: `hf`, `random`, a directory or a glob.
        revision: branch, tag or commit of the hub's repositories.

    Raises:
        UserError: there is a revision, and the source is not the hub.
    """
    if value == "hf":
        return HubSource(revision)
    if revision is not None:
        raise UserError(
            f"--revision {revision}: --checkpoints {value} has no revisions; expected "
            "--checkpoints hf, or no --revision"
        )
    return RandomSource() if value == "random" else FileSource(value)


def _read(path: pathlib.Path, kind: intake.WeightsKind | None = None) -> LazyTensors | PthTensors:
    return (
        LazyTensors(str(path), kind)
        if path.suffix == ".safetensors"
        else PthTensors(str(path), kind)
    )


def open_checkpoint(
    source: CheckpointSource,
    variant: Variant,
    cache: pathlib.Path,
    kind: intake.WeightsKind | None = None,
    ask: bool = False,
) -> Checkpoint:
    """Locates a variant's checkpoint and checks all of its tensors.

    Args:
        source: where the checkpoint comes from.
        variant: the variant that it has to fit, with any number of classes or no head, and with the
            positions of any square image.
        cache: a directory for a file that the source writes.
        kind: which weights to take of a file with both kinds; None for the averaged ones, as timm's
            loader has it.
        ask: refuses such a file where no kind is named.

    Raises:
        CheckpointError: there is no such file, it is damaged, it has no weights of the kind or
            leaves the choice to `ask`, a tensor is missing, unknown or of a wrong shape, or a
            number in it is not finite.
    """
    path, description = source.locate(variant, cache)
    tensors = _read(path, kind)
    if ask and kind is None and tensors.differing:
        raise CheckpointError(
            f"checkpoint {path}: it has weights as trained and averaged ones ({tensors.notes[0]}); "
            "name one with --weights model or --weights ema"
        )
    subject = f"checkpoint {path} for {variant.name}"
    config = _found_config(tensors.shapes, variant.config, subject)
    check_shapes(tensors.shapes, config, subject)
    for key in tensors:
        bad = int(np.count_nonzero(~np.isfinite(tensors[key])))
        if bad:
            raise CheckpointError(
                f"checkpoint {path}: tensor {key!r} has {bad} numbers that are not finite; "
                "expected none"
            )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(
        path=str(path),
        source=description,
        sha256=digest,
        trained=source.trained and tensors.metadata.get(_TRAINED) != "false",
        num_classes=config.num_classes,
        image_size=config.image_size,
        kind=tensors.kind,
        notes=(*tensors.notes, *([] if config.num_classes else ["no classification head"])),
    )


def _found_config(shapes: Mapping[str, Shape], config: CaiTConfig, subject: str) -> CaiTConfig:
    """A configuration with the number of classes and the image size that a checkpoint has.

    What it cannot read stays as it is: `check_shapes` names it.

    Raises:
        CheckpointError: the positions are not of a square grid of patches.
    """
    found = {}
    head = shapes.get("head.weight", ())
    if len(head) == 2 and head[0]:
        found["num_classes"] = head[0]
    elif not any(key.startswith("head.") for key in shapes):
        found["num_classes"] = 0
    positions = shapes.get("pos_embed", ())
    if len(positions) == 3:
        side = math.isqrt(positions[1])
        if not side or side**2 != positions[1]:
            raise CheckpointError(
                f"{subject}: tensor 'pos_embed' has shape {positions}; expected a position for "
                f"each patch of a square image, such as {config.patches} for {config.image_size} "
                "pixels"
            )
        found["image_size"] = side * config.patch_size
    return dataclasses.replace(config, **found)


def write_random_checkpoint(variant: Variant, path: pathlib.Path) -> None:
    """Writes a variant's random weights as a safetensors file, marked as not trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(variant.name, variant.config)
    safetensors.numpy.save_file(tensors, path, {_TRAINED: "false"})
