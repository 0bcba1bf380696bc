"""Arguments and results of the clients, without types of gRPC or TensorFlow."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

Encoded: TypeAlias = bytes | str | os.PathLike[str]
"""A JPEG or PNG of any size: its bytes, or the path of its file."""

Images: TypeAlias = npt.NDArray[Any] | Encoded | Sequence[Encoded]
"""Normalised images, float32 (B, S, S, 3), or encoded images; a single one is a batch of one."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model and a version or a label of it; the latest version without either.

    Raises:
        ValueError: both a version and a label.
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
    """A tensor of a signature.

    Attributes:
        dtype: TensorFlow's name of its dtype.
        shape: its sizes, None for those known only at a call; None for an unknown rank.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureMetadata:
    """A signature: TF Serving's name of its API method, and its tensors by name."""

    method: str
    inputs: dict[str, TensorMetadata]
    outputs: dict[str, TensorMetadata]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The version that answered, its signatures by name, and whether it is marked as untrained,
    with random (seeded) weights.
    """

    model: str
    version: int
    signatures: dict[str, SignatureMetadata]
    untrained: bool = False


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version, its state ("AVAILABLE", "LOADING", ...) and its error, "" without one."""

    version: int
    state: str
    error: str
