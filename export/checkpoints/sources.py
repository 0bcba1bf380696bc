"""Checkpoints: finding, checking and reading a variant's weights.

Every source (`CheckpointSource`) puts a file in timm's key layout, safetensors or PyTorch's `.pth`,
on the local disk. `open_checkpoint` checks the whole file before anything is built from it.
"""

import dataclasses
import glob
import hashlib
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

# NumPy knows bfloat16 once this is imported.
import ml_dtypes  # noqa: F401
import numpy as np
import safetensors
import safetensors.numpy

from ..errors import CheckpointError, UserError
from ..variants import Variant
from ..weights import Array, check_shapes, expected_shapes
from . import intake
from .hub import HubSource
from .pth import PthTensors
from .random_weights import random_tensor

# safetensors' names of the types of trained weights, and NumPy's; all are converted to float32.
_FLOAT_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

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
        num_classes: outputs of the head.
        kind: the weights as trained, or their moving average.
        notes: what was done to read the file, a line for each.
    """

    path: str
    source: str
    sha256: str
    trained: bool
    num_classes: int = 1000
    kind: intake.WeightsKind = "model"
    notes: tuple[str, ...] = ()

    def tensors(self) -> "LazyTensors | PthTensors":
        """The tensors; each is read at its look-up."""
        return _read(pathlib.Path(self.path), self.kind)


class LazyTensors(Mapping[str, Array]):
    """Tensors of a safetensors file by key, float32, read from the file at each look-up.

    Keys have no prefix of a wrapper: see `intake`.

    The file is opened for each look-up, so that its pages leave memory with the array. A mapping
    that stayed open would keep the whole file resident.

    Args:
        path: the file.
        kind: which weights to take; the format has no averaged ones beside others.

    Attributes:
        shapes: key -> shape.
        metadata: of the file's header.
        notes: what the steps of the intake did, a line for each.
        differing: False; the format has one kind of weights.
        kind: of the weights.

    Raises:
        CheckpointError: the file is not a safetensors file or not complete, a tensor in it is not
            of a floating type, or the weights are not of the kind.
    """

    differing = False
    kind: intake.WeightsKind = "model"

    def __init__(self, path: str, kind: intake.WeightsKind | None = None) -> None:
        self._path = path
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                shapes = {key: tuple(entry.get_shape()) for key, entry in slices.items()}
                types = {key: entry.get_dtype() for key, entry in slices.items()}
                self.metadata: dict[str, str] = file.metadata() or {}
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(
                f"checkpoint {path}: not a complete safetensors file ({error}); "
                "download or write it again"
            ) from error
        for key, dtype in types.items():
            if dtype not in _FLOAT_TYPES:
                raise CheckpointError(
                    f"checkpoint {path}: tensor {key!r} is of type {dtype}; "
                    f"expected one of {', '.join(_FLOAT_TYPES)}"
                )
        if kind == "ema":
            raise CheckpointError(
                f"checkpoint {path}: a safetensors file has one kind of weights; expected no "
                "--weights ema"
            )
        self._keys, removed = intake.without_prefixes(shapes, f"checkpoint {path}")
        self.shapes = {key: shapes[whole] for key, whole in self._keys.items()}
        narrow = intake.widened(_FLOAT_TYPES[dtype] for dtype in types.values())
        self.notes = tuple(filter(None, (removed, narrow)))

    def __getitem__(self, key: str) -> Array:
        whole = self._keys[key]
        with safetensors.safe_open(self._path, framework="numpy") as file:
            tensor: Array = file.get_tensor(whole)
        return tensor.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


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


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A directory, or a glob, with `<variant>.safetensors` or DeiT's file, such as `S24_224.pth`.

    Of the two, the safetensors file is preferred.

    Attributes:
        pattern: the directory or the glob.
    """

    pattern: str
    trained: bool = True

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        names = file_names(variant)
        directory = pathlib.Path(self.pattern)
        paths = (
            [str(directory / name) for name in names]
            if directory.is_dir()
            else sorted(glob.glob(self.pattern))
        )
        found = only_file(self.pattern, [path for path in paths if os.path.isfile(path)], names)
        return pathlib.Path(found), found


def file_names(variant: Variant) -> list[str]:
    """The possible names of a file with a variant's weights, the preferred one first."""
    return [f"{variant.name}.safetensors", *([variant.deit_file] if variant.deit_file else [])]


def only_file(pattern: str, addresses: Sequence[str], names: Sequence[str]) -> str:
    """The address of the only file with the first of the names that any file has.

    Args:
        pattern: the value of `--checkpoints`, for messages.
        addresses: the addresses of all files.
        names: the names, the preferred one first.

    Raises:
        CheckpointError: no file has one of the names, or several have the same.
    """
    for name in names:
        found = [address for address in addresses if address.rsplit("/", 1)[-1] == name]
        if len(found) > 1:
            raise CheckpointError(
                f"--checkpoints {pattern}: {len(found)} files named {name}, among them "
                f"{found[0]} and {found[1]}; expected one"
            )
        if found:
            return found[0]
    raise CheckpointError(
        f"--checkpoints {pattern}: no file {' or '.join(names)} there; "
        "expected a directory or a glob that contains it, 'hf' or 'random'"
    )


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
    return PthTensors(str(path), kind) if path.suffix == ".pth" else LazyTensors(str(path), kind)


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
        variant: the variant that it has to fit, with any number of classes.
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
    head = tensors.shapes.get("head.weight", ())
    # Anything but a matrix with rows fails the check below, which names it.
    num_classes = head[0] if len(head) == 2 and head[0] else variant.config.num_classes
    config = dataclasses.replace(variant.config, num_classes=num_classes)
    check_shapes(tensors.shapes, config, f"checkpoint {path} for {variant.name}")
    for key in tensors:
        bad = int(np.count_nonzero(~np.isfinite(tensors[key])))
        if bad:
            raise CheckpointError(
                f"checkpoint {path}: tensor {key!r} has {bad} numbers that are not finite; "
                "expected none"
            )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    trained = source.trained and tensors.metadata.get(_TRAINED) != "false"
    return Checkpoint(
        str(path), description, digest, trained, num_classes, tensors.kind, tensors.notes
    )


def write_random_checkpoint(variant: Variant, path: pathlib.Path) -> None:
    """Writes a variant's random weights as a safetensors file, marked as not trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: random_tensor(variant.name, key, shape)
        for key, shape in expected_shapes(variant.config).items()
    }
    safetensors.numpy.save_file(tensors, path, {_TRAINED: "false"})
