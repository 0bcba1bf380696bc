"""Checkpoints: where a variant's weights come from, and reading them.

There is one way in: a file in timm's key layout, safetensors or PyTorch's `.pth`, checked whole
before anything is built from it. A source (`CheckpointSource`) only has to put such a file on the
local disk.
"""

import dataclasses
import glob
import hashlib
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from ..errors import CheckpointError, UserError
from ..variants import Variant
from ..weights import check_shapes, expected_shapes
from .hub import HubSource
from .pth import PthTensors
from .random_weights import random_tensor

Array = npt.NDArray[np.float32]

# safetensors' names of the types that hold trained weights; all are widened to float32.
_FLOAT_TYPES = ("F32", "F16")

# In the header of a file of weights made by rule, so that it is known for one wherever it goes.
_TRAINED = "trained"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checked file of weights. Small: it carries no tensors.

    Attributes:
        path: the file.
        source: where it came from, for people.
        sha256: of the file, in hexadecimal.
        trained: False for weights made by rule, also where a file of them is read.
        num_classes: outputs of its head.
    """

    path: str
    source: str
    sha256: str
    trained: bool
    num_classes: int = 1000

    def tensors(self) -> "LazyTensors | PthTensors":
        """The tensors, each read when it is asked for."""
        return _read(pathlib.Path(self.path))


class LazyTensors(Mapping[str, Array]):
    """Tensors of a safetensors file by key, float32, read from the file at each look-up.

    The file is opened for each look-up: what was read then leaves memory with the array, where a
    mapping that stays open would keep the whole file resident.

    Raises:
        CheckpointError: the file is not a safetensors file or not complete, or a tensor in it is
            not of a floating type.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                keys = list(file.keys())
                self.shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
                types = {key: file.get_slice(key).get_dtype() for key in self.shapes}
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

    def __getitem__(self, key: str) -> Array:
        if key not in self.shapes:
            raise KeyError(key)
        with safetensors.safe_open(self._path, framework="numpy") as file:
            tensor: Array = file.get_tensor(key)
        return tensor.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class CheckpointSource(Protocol):
    """A place that weights come from."""

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        """Puts a variant's file on the local disk.

        Args:
            variant: whose weights.
            cache: a directory to write into, if the file has to be made.

        Returns:
            The file, and its source in words.

        Raises:
            CheckpointError: there is none.
        """

    @property
    def trained(self) -> bool:
        """Whether weights from here were trained."""


@dataclasses.dataclass(frozen=True)
class RandomSource:
    """Weights by the rule of `random_weights`, written as a file first."""

    trained: bool = False

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        path = cache / f"{variant.name}.safetensors"
        if not path.is_file():
            # Another worker of the host may make it at the same time.
            temporary = path.with_name(f".{uuid.uuid4().hex}")
            write_random_checkpoint(variant, temporary)
            temporary.rename(path)
        return path, "random"


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A directory, or a glob, with `<variant>.safetensors` or DeiT's file, such as `S24_224.pth`.

    Where both are, the safetensors file is taken.

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
    """Names of a file with a variant's weights, the preferred one first."""
    return [f"{variant.name}.safetensors", *([variant.deit_file] if variant.deit_file else [])]


def only_file(pattern: str, addresses: Sequence[str], names: Sequence[str]) -> str:
    """The address of the file with the first of the names that there is.

    Args:
        pattern: the value of `--checkpoints`, for messages.
        addresses: of all files there.
        names: the names, the preferred one first.

    Raises:
        CheckpointError: there is none, or there are several of a name.
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
        "expected a directory or a glob that holds it, 'hf' or 'random'"
    )


def checkpoint_source(value: str, revision: str | None = None) -> CheckpointSource:
    """The source that a value of `--checkpoints` names.

    Args:
        value: `hf`, `random`, a directory or a glob.
        revision: branch, tag or commit of the hub's repositories.

    Raises:
        UserError: there is a revision, and the weights are not the hub's.
    """
    if value == "hf":
        return HubSource(revision)
    if revision is not None:
        raise UserError(
            f"--revision {revision}: --checkpoints {value} has no revisions; expected "
            "--checkpoints hf, or no --revision"
        )
    return RandomSource() if value == "random" else FileSource(value)


def _read(path: pathlib.Path) -> LazyTensors | PthTensors:
    return PthTensors(str(path)) if path.suffix == ".pth" else LazyTensors(str(path))


def open_checkpoint(source: CheckpointSource, variant: Variant, cache: pathlib.Path) -> Checkpoint:
    """Gets a variant's weights and checks all of them.

    Args:
        source: where from.
        variant: what the weights have to fit, but for the number of classes: that is the head's.
        cache: a directory for files that the source makes.

    Raises:
        CheckpointError: there is no such file, it is damaged, a tensor is missing, unknown or of
            a wrong shape, or a number in it is not finite.
    """
    path, words = source.locate(variant, cache)
    tensors = _read(path)
    head = tensors.shapes.get("head.weight", ())
    # Anything but a matrix with rows is left to the check, which names what it finds.
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
    return Checkpoint(str(path), words, digest, trained, num_classes)


def write_random_checkpoint(variant: Variant, path: pathlib.Path) -> None:
    """Writes a variant's weights by rule as a safetensors file, marked as not trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: random_tensor(variant.name, key, shape)
        for key, shape in expected_shapes(variant.config).items()
    }
    safetensors.numpy.save_file(tensors, path, {_TRAINED: "false"})
