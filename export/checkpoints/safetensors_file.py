"""Tensors of safetensors files."""

from collections.abc import Iterator, Mapping

# NumPy knows bfloat16 once this is imported.
import ml_dtypes  # noqa: F401
import numpy as np
import safetensors

from ..errors import CheckpointError
from ..weights import Array
from . import intake

# safetensors' names of the types of trained weights, and NumPy's; all are converted to float32.
_FLOAT_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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
