"""What clients take and give, without anything of gRPC or TensorFlow in it."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

Encoded: TypeAlias = bytes | str | os.PathLike[str]
"""A JPEG or PNG of any size: its bytes, or the path of its file."""

Images: TypeAlias = npt.NDArray[Any] | Encoded | Sequence[Encoded]
"""Normalised images, float32 (B, S, S, 3), or encoded ones; a single encoded one is a batch."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Which model, and which version of it: the latest if neither of the two is given.

    Raises:
        ValueError: both are.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError("a version or a label, not both")


class Label(NamedTuple):
    """A class of an image, with its probability."""

    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class TensorMetadata:
    """A tensor of a signature: TensorFlow's name of its dtype, and its shape.

    Sizes that are not known before a call are None; so is a shape of unknown rank.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureMetadata:
    """A signature: TF Serving's name of its method, and its tensors by name."""

    method: str
    inputs: dict[str, TensorMetadata]
    outputs: dict[str, TensorMetadata]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The version that answered, its signatures by name, and whether it says of itself that its
    weights were made by rule.
    """

    model: str
    version: int
    signatures: dict[str, SignatureMetadata]
    untrained: bool = False


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version, its state ("AVAILABLE", "LOADING", ...), and its error or nothing."""

    version: int
    state: str
    error: str
