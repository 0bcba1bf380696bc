"""Reading the pickle of a PyTorch file without running anything that it names.

A pickle can call any function of any module. Here it can name only ordered dictionaries, the types
of storages, and the function that makes a tensor of a storage; for the last two it gets plain
records. Whatever else it names becomes an inert placeholder: it can be called, filled and given a
state as any class can, and none of it does anything.
"""

import collections
import io
import pickle
import re
from typing import Any, NamedTuple


def load(content: bytes) -> object:
    """What a pickle holds, with `Tensor` for tensors and `Inert` for all that is no plain data.

    Raises:
        Exception: the pickle is malformed. It is a program, which may raise anything.
    """
    return _Unpickler(io.BytesIO(content)).load()


class Storage(NamedTuple):
    """A member of the archive, as the pickle describes it."""

    type: str
    key: str
    numel: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides are in numbers, not in bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """A placeholder of an object that the pickle makes by a class or function. It keeps nothing.

    Attributes:
        named: module and name of what was to make it.
    """

    __slots__ = ()
    named = ""

    def __new__(cls, *_args: object, **_named: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_args: object, **_named: object) -> None:
        pass

    def __call__(self, *_args: object, **_named: object) -> "Inert":
        return self

    def __setstate__(self, _state: object) -> None:
        pass

    def append(self, _item: object) -> None:
        """Takes an item of a list."""

    def extend(self, _items: object) -> None:
        """Takes items of a list."""

    def add(self, _item: object) -> None:
        """Takes an item of a set."""

    def __setitem__(self, _key: object, _item: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


def _inert(module: str, name: str) -> type[Inert]:
    """A class for one name. A class, because a pickle's instructions ask for one."""
    return type("Inert", (Inert,), {"__slots__": (), "named": f"{module}.{name}"})


def named_by(value: object) -> str | None:
    """What makes a value inert: the name that the pickle uses; None for plain data."""
    if isinstance(value, Inert) or (isinstance(value, type) and issubclass(value, Inert)):
        return value.named
    return None


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
    ) -> Tensor:
        sizes = [offset, *_tuple(shape), *_tuple(strides)]
        if not isinstance(storage, Storage) or len(_tuple(shape)) != len(_tuple(strides)):
            raise ValueError("a tensor's description is malformed")
        if not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
            raise ValueError(f"a tensor's sizes are {sizes}")
        return Tensor(storage, sizes[0], _tuple(shape), _tuple(strides))


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
        return _inert(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _location, numel = _tuple(pid)
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"a reference of the kind {kind!r}")
        if type(key) is not str or type(numel) is not int or numel < 0:
            raise ValueError("a storage's description is malformed")
        return Storage(str(storage_type), key, numel)
