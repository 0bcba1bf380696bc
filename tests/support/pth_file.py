"""Writing `.pth` files as PyTorch does, and as it does not."""

import collections
import pathlib
import pickle
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = dict[str, npt.NDArray[np.float32]]


class Named:
    """A global that a pickle names, without there being one."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __reduce__(self) -> str:
        return self.name


class Call:
    """A call that a pickle asks for."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Built:
    """An object that a pickle gives a state."""

    def __init__(self, made: Call, state: object) -> None:
        self.made, self.state = made, state


class Storage:
    def __init__(self, key: str, numel: int, kind: str = "FloatStorage") -> None:
        self.description = ("storage", Named("torch", kind), key, "cpu", numel)


# The one in Python, which can be taught to name what is not there. Its types are hidden.
_Pickler: Any = pickle._Pickler


class Pickler(_Pickler):
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Built):
            self.save(obj.made)
            self.save(obj.state)
            self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj: Any) -> Any:
        return obj.description if isinstance(obj, Storage) else None


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(key: str, shape: tuple[int, ...], **changed: Any) -> Call:
    """What `torch.save` writes of a contiguous tensor that has a storage to itself."""
    strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    numel = changed.get("numel", int(np.prod(shape)))
    storage = Storage(key, numel, changed.get("kind", "FloatStorage"))
    offset, strides = changed.get("offset", 0), changed.get("strides", strides)
    return Call(REBUILD, storage, offset, shape, strides, False, collections.OrderedDict())


def write(
    path: pathlib.Path,
    content: object,
    members: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> pathlib.Path:
    """Writes a file as `torch.save` does."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                Pickler(file, 2).dump(content)
        for name, data in (members or {}).items():
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", b"3\n")
    return path


def write_tensors(path: pathlib.Path, tensors: Tensors, prefix: str = "") -> pathlib.Path:
    items = list(tensors.items())
    state = collections.OrderedDict(
        (prefix + key, tensor(str(i), array.shape)) for i, (key, array) in enumerate(items)
    )
    members = {f"data/{i}": array.tobytes() for i, (_, array) in enumerate(items)}
    return write(path, {"model": state}, members)
