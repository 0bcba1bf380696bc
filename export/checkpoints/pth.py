"""Reading PyTorch's checkpoints without PyTorch, and without running code from them.

A `.pth` file is a zip archive with a pickle of the structure (`data.pkl`) and a member for each
storage. A pickle can call any function of any module. Here it can name only ordered dictionaries,
the types of storages, and the function that makes a tensor of a storage; for the last two it gets
plain records. Format: PyTorch's `torch/serialization.py` and `torch/_utils.py`.
"""

import collections
import io
import math
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..errors import CheckpointError
from ..weights import Array

# Types of storages with trained weights; all are converted to float32.
_FLOAT_STORAGES = {"FloatStorage": "f4", "HalfStorage": "f2"}

# A checkpoint's structure takes some hundred kilobytes; this limits what is read at once.
_LARGEST_PICKLE = 64 << 20

# Training with several processes puts this before every key.
_PREFIX = "module."

# PyTorch's formats before the zip archive begin so: a pickle of a magic number, a tar archive.
_OLD_FORMATS = (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"././@LongLink")


class PthTensors(Mapping[str, Array]):
    """Tensors of a `.pth` file by key, float32, each read from the file when it is looked up.

    The file contains a dictionary of tensors, or, as DeiT's checkpoints, a dictionary with such a
    dictionary as `model`. A prefix `module.` is removed from the keys.

    Attributes:
        shapes: key -> shape.
        metadata: empty; the format has none.

    Raises:
        CheckpointError: the file is no such archive or not complete, contains anything but tensors,
            or a tensor is not of a floating type.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.metadata: dict[str, str] = {}
        try:
            content, self._members, self._order = self._read_archive()
        except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError) as error:
            self._refuse_format(error)
        self._tensors = self._state(self._unpickle(content))
        self.shapes = {key: tensor.shape for key, tensor in self._tensors.items()}
        for key, tensor in self._tensors.items():
            self._check(key, tensor)

    def __getitem__(self, key: str) -> Array:
        tensor = self._tensors[key]
        dtype = np.dtype(self._order + _FLOAT_STORAGES[tensor.storage.type])
        offset, _ = self._members[tensor.storage.key]
        storage = np.memmap(self._path, dtype, "r", offset, (tensor.storage.numel,))
        view = np.lib.stride_tricks.as_strided(
            storage[tensor.offset :],
            tensor.shape,
            [stride * dtype.itemsize for stride in tensor.strides],
            writeable=False,
        )
        # A copy, so that the mapping and its pages are released when this returns.
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
            return _Unpickler(io.BytesIO(content)).load()
        except _ForbiddenError as error:
            self._refuse(f"its pickle uses {error}; expected tensors only. Nothing in it was run")
        except Exception as error:
            # A pickle is a program: a wrong one may raise anything.
            self._refuse(
                f"its pickle cannot be read ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); download or write it again"
            )

    def _state(self, content: object) -> dict[str, "_Tensor"]:
        state = content.get("model", content) if isinstance(content, dict) else content
        if not isinstance(state, dict) or not state:
            self._refuse(
                f"it holds {type(state).__name__}; expected a dictionary of tensors, or a "
                "dictionary with one as 'model'"
            )
        tensors: dict[str, _Tensor] = {}
        for key, tensor in state.items():
            if not isinstance(key, str) or not isinstance(tensor, _Tensor):
                self._refuse(f"entry {key!r} is {type(tensor).__name__}; expected a tensor")
            name = key.removeprefix(_PREFIX)
            if name in tensors:
                self._refuse(f"tensor {name!r} is there twice, with and without {_PREFIX!r}")
            tensors[name] = tensor
        return tensors

    def _check(self, key: str, tensor: "_Tensor") -> None:
        storage = tensor.storage
        if storage.type not in _FLOAT_STORAGES:
            self._refuse(
                f"tensor {key!r} is of type torch.{storage.type}; expected one of "
                + ", ".join(f"torch.{name}" for name in _FLOAT_STORAGES)
            )
        itemsize = np.dtype(_FLOAT_STORAGES[storage.type]).itemsize
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


class _Storage(NamedTuple):
    """A member of the archive, as the pickle describes it."""

    type: str
    key: str
    numel: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides are in numbers, not in bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _ForbiddenError(Exception):
    """A name that a pickle may not use."""


class _StorageType(str):
    """The name of a type of storages. It cannot be called and has no attributes to set."""

    __slots__ = ()


class _RebuildTensor:
    """The replacement of `torch._utils._rebuild_tensor_v2`.

    An object without attributes, not a function: a pickle can set attributes of what it names.
    """

    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, shape: object, strides: object, *_rest: object
    ) -> _Tensor:
        sizes = [offset, *_tuple(shape), *_tuple(strides)]
        if not isinstance(storage, _Storage) or len(_tuple(shape)) != len(_tuple(strides)):
            raise ValueError("a tensor's description is malformed")
        if not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
            raise ValueError(f"a tensor's sizes are {sizes}")
        return _Tensor(storage, sizes[0], _tuple(shape), _tuple(strides))


def _tuple(value: object) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise ValueError(f"{type(value).__name__} where a tuple was expected")
    return value


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if module == "torch" and re.fullmatch(r"[A-Za-z0-9]+Storage", name):
            return _StorageType(name)
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, numel = _tuple(pid)
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"a reference of the kind {kind!r}")
        if type(key) is not str or type(numel) is not int or numel < 0:
            raise ValueError("a storage's description is malformed")
        return _Storage(str(storage_type), key, numel)
