"""Tensors of PyTorch's checkpoints, without PyTorch, and without running code from them.

Such a file is a zip archive with a pickle of the structure (`data.pkl`) and a member for each
storage. Format: PyTorch's `torch/serialization.py` and `torch/_utils.py`.
"""

import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import NoReturn

import numpy as np

from ..errors import CheckpointError
from ..weights import Array
from . import inert_pickle, intake
from .inert_pickle import Tensor

# Types of storages with trained weights: NumPy's type and PyTorch's name; all become float32. The
# upper half of a float32 is a bfloat16.
_FLOAT_STORAGES = {
    "FloatStorage": ("f4", "float32"),
    "HalfStorage": ("f2", "float16"),
    "BFloat16Storage": ("u2", "bfloat16"),
}

# A checkpoint's structure takes some hundred kilobytes; this limits what is read at once.
_LARGEST_PICKLE = 64 << 20

# PyTorch's formats before the zip archive begin so: a pickle of a magic number, a tar archive.
_OLD_FORMATS = (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"././@LongLink")


class PthTensors(Mapping[str, Array]):
    """Tensors of a `.pth` file by key, float32, each read from the file when it is looked up.

    The file contains a dictionary of tensors, or a trainer's dictionary with such as an entry: see
    `intake`.

    Args:
        path: the file.
        kind: which weights to take where there are several; None for the averaged ones.

    Attributes:
        shapes: key -> shape.
        metadata: empty; the format has none.
        notes: what the steps of the intake did, a line for each.
        differing: whether there were both kinds of weights, with other numbers.
        kind: of the weights.

    Raises:
        CheckpointError: the file is no such archive or not complete, its tensors are made by
            anything but what PyTorch makes tensors by, or one is not of a floating type.
    """

    def __init__(self, path: str, kind: intake.WeightsKind | None = None) -> None:
        self._path = path
        self.metadata: dict[str, str] = {}
        try:
            content, self._members, self._order = self._read_archive()
        except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError) as error:
            self._refuse_format(error)
        state, chosen, self.differing = self._state(self._unpickle(content), kind)
        whole = self._only_tensors(state)
        keys, removed = intake.without_prefixes(whole, f"checkpoint {path}")
        self._tensors = {key: whole[found] for key, found in keys.items()}
        self.kind = state.kind
        self.shapes = {key: tensor.shape for key, tensor in self._tensors.items()}
        for key, tensor in self._tensors.items():
            self._check(key, tensor)
        types = (_FLOAT_STORAGES[t.storage.type][1] for t in self._tensors.values())
        self.notes = tuple(filter(None, (chosen, removed, intake.widened(types))))

    def __getitem__(self, key: str) -> Array:
        return self._read(self._tensors[key])

    def _read(self, tensor: Tensor) -> Array:
        dtype = np.dtype(self._order + _FLOAT_STORAGES[tensor.storage.type][0])
        offset, _ = self._members[tensor.storage.key]
        storage = np.memmap(self._path, dtype, "r", offset, (tensor.storage.numel,))
        view = np.lib.stride_tricks.as_strided(
            storage[tensor.offset :],
            tensor.shape,
            [stride * dtype.itemsize for stride in tensor.strides],
            writeable=False,
        )
        # A copy, so that the mapping and its pages are released when this returns.
        if dtype.kind == "u":
            return (np.array(view, np.uint32, order="C") << 16).view(np.float32)
        return np.array(view, np.float32, order="C")

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _refuse(self, what: str) -> NoReturn:
        raise CheckpointError(f"checkpoint {self._path}: {what}")

    def _refuse_format(self, error: Exception) -> NoReturn:
        try:
            with open(self._path, "rb") as file:
                start = file.read(64)
        except OSError:
            start = b""
        if start.startswith(_OLD_FORMATS):
            self._refuse(
                "it is in the format of PyTorch before 1.6; write it anew with PyTorch: "
                "torch.save(torch.load(path, map_location='cpu', weights_only=True), path)"
            )
        self._refuse(
            f"not a complete file of torch.save ({' '.join(str(error).split())}); "
            "download or write it again"
        )

    def _read_archive(self) -> tuple[bytes, dict[str, tuple[int, int]], str]:
        """The pickle, the offset and size of each storage in the file, and the byte order."""
        members: dict[str, tuple[int, int]] = {}
        order = "<"
        with zipfile.ZipFile(self._path) as archive, open(self._path, "rb") as file:
            infos = archive.infolist()
            pickles = [info for info in infos if re.fullmatch(r"[^/]+/data\.pkl", info.filename)]
            if len(pickles) != 1:
                raise KeyError(f"{len(pickles)} members data.pkl; expected one")
            folder = pickles[0].filename.removesuffix("data.pkl")
            if pickles[0].file_size > _LARGEST_PICKLE:
                self._refuse(
                    f"data.pkl has {pickles[0].file_size} bytes; at most {_LARGEST_PICKLE} are read"
                )
            for info in infos:
                if info.filename == f"{folder}byteorder":
                    order = {b"little": "<", b"big": ">"}[archive.read(info)]
                if not info.filename.startswith(f"{folder}data/"):
                    continue
                if info.compress_type != zipfile.ZIP_STORED:
                    raise KeyError(f"{info.filename} is compressed; torch.save compresses nothing")
                # The header of a member may have other extra fields than the central directory.
                file.seek(info.header_offset)
                header = file.read(30)
                names = int.from_bytes(header[26:28], "little")
                extra = int.from_bytes(header[28:30], "little")
                start = info.header_offset + 30 + names + extra
                if start + info.file_size > archive.start_dir:
                    raise KeyError(f"{info.filename} is cut off")
                members[info.filename.removeprefix(f"{folder}data/")] = (start, info.file_size)
            return archive.read(pickles[0]), members, order

    def _unpickle(self, content: bytes) -> object:
        try:
            return inert_pickle.load(content)
        except Exception as error:
            # A pickle is a program: a wrong one may raise anything.
            self._refuse(
                f"its pickle cannot be read ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); download or write it again"
            )

    def _state(
        self, content: object, kind: intake.WeightsKind | None
    ) -> tuple[intake.StateDict, str, bool]:
        found = list(intake.state_dicts(content, lambda value: isinstance(value, Tensor)))
        if not found:
            self._refuse_content(content)
        return intake.choose(found, kind, self._same, f"checkpoint {self._path}")

    def _refuse_content(self, content: object) -> NoReturn:
        """Says why no dictionary of tensors was found."""
        state = content.get("model", content) if isinstance(content, dict) else content
        if name := inert_pickle.named_by(state):
            self._refuse_code(name)
        if not isinstance(state, dict) or not state:
            self._refuse(
                f"it holds {type(state).__name__}; expected a dictionary of tensors, or a "
                "dictionary with one as 'model'"
            )
        key, value = next(iter(state.items()))
        self._refuse_entry(key, value)

    def _only_tensors(self, state: intake.StateDict) -> dict[str, Tensor]:
        """The tensors of a state dict. Its plain numbers and texts are passed over."""
        tensors: dict[str, Tensor] = {}
        for key, value in state.entries.items():
            if name := inert_pickle.named_by(value):
                self._refuse_code(name)
            if isinstance(key, str) and isinstance(value, Tensor):
                tensors[key] = value
            elif not isinstance(value, int | float | str | None):
                self._refuse_entry(key, value)
        return tensors

    def _refuse_code(self, name: str) -> NoReturn:
        self._refuse(f"its pickle uses {name}; expected tensors only. Nothing in it was run")

    def _refuse_entry(self, key: object, value: object) -> NoReturn:
        self._refuse(f"entry {key!r} is {type(value).__name__}; expected a tensor")

    def _same(self, one: intake.StateDict, other: intake.StateDict) -> bool:
        if one.entries.keys() != other.entries.keys():
            return False
        for key, value in one.entries.items():
            twin = other.entries[key]
            if not isinstance(value, Tensor) or not isinstance(twin, Tensor):
                continue
            self._check(str(key), value)
            self._check(str(key), twin)
            if not np.array_equal(self._read(value), self._read(twin), equal_nan=True):
                return False
        return True

    def _check(self, key: str, tensor: Tensor) -> None:
        storage = tensor.storage
        if storage.type not in _FLOAT_STORAGES:
            self._refuse(
                f"tensor {key!r} is of type torch.{storage.type}; expected one of "
                + ", ".join(f"torch.{name}" for name in _FLOAT_STORAGES)
            )
        itemsize = np.dtype(_FLOAT_STORAGES[storage.type][0]).itemsize
        _, size = self._members.get(storage.key, (0, -1))
        if size != storage.numel * itemsize:
            found = "is not there" if size < 0 else f"has {size} bytes"
            self._refuse(
                f"tensor {key!r}: its storage {storage.key!r} {found}; "
                f"expected {storage.numel * itemsize} bytes"
            )
        last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        if math.prod(tensor.shape) and tensor.offset + last >= storage.numel:
            self._refuse(f"tensor {key!r} reaches beyond its storage of {storage.numel} numbers")
