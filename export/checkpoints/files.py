"""Finding a variant's file of weights in a directory."""

import dataclasses
import glob
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..architecture import is_own, variant_of
from ..errors import CheckpointError
from ..variants import VARIANTS, Variant


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A directory, or a glob, with `<variant>.safetensors` or DeiT's file, such as `S24_224.pth`.

    Of the two, the safetensors file is preferred. Without any of them the only file of weights is
    taken, such as `model.safetensors` of a hub or `best.pth` of a trainer, if the architecture in
    the `config.json` beside it, where there is one, has the variant's blocks.

    Attributes:
        pattern: the file, the directory or the glob.
    """

    pattern: str
    trained: bool = True

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        found = file_of_variant(self.pattern, self._files(), variant, _read_if_there)
        return pathlib.Path(found), found

    def architecture(self) -> Variant | None:
        return described_variant(self.pattern, self._files(), _read_if_there)

    def _files(self) -> list[str]:
        directory = pathlib.Path(self.pattern)
        paths = map(str, directory.iterdir()) if directory.is_dir() else glob.glob(self.pattern)
        return sorted(path for path in paths if os.path.isfile(path))


def _read_if_there(path: str) -> bytes | None:
    return pathlib.Path(path).read_bytes() if os.path.isfile(path) else None


def file_of_variant(
    pattern: str,
    addresses: Sequence[str],
    variant: Variant,
    read: Callable[[str], bytes | None],
) -> str:
    """The address of the file with a variant's weights.

    Args:
        pattern: the value of `--checkpoints`, for messages.
        addresses: the paths or URLs of all files that it leads to.
        variant: the variant.
        read: reads a small file, or returns None where there is none.

    Raises:
        CheckpointError: there is no such file, there are several, or it is of another variant.
    """
    names = [f"{variant.name}.safetensors", *([variant.deit_file] if variant.deit_file else [])]
    if not any(_name(address) in names for address in addresses):
        _check_architecture(pattern, addresses, variant, read)
        names += _unnamed_weights(addresses)
    return _only_file(pattern, addresses, names)


def _name(address: str) -> str:
    return address.rsplit("/", 1)[-1]


WEIGHTS = "model.safetensors"
CONFIG = "config.json"
LABELS = "labels.txt"
"""Beside weights: the names of their classes, a line for each."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_HUB_NAMES = (WEIGHTS, "pytorch_model.bin")


def _unnamed_weights(addresses: Sequence[str]) -> list[str]:
    """The name of the only file of weights that is named after no variant, if there is one."""
    names = [_name(address) for address in addresses]
    of_hub = [name for name in _HUB_NAMES if name in names]
    if of_hub:
        return of_hub[:1]
    weights = [name for name in names if name.endswith(SUFFIXES)]
    return weights if len(weights) == 1 else []


def _check_architecture(
    pattern: str,
    addresses: Sequence[str],
    variant: Variant,
    read: Callable[[str], bytes | None],
) -> None:
    """Compares the architecture in a hub's `config.json` with the variant.

    It may be the same network at another image size: the positions tell the size of the weights.

    Raises:
        CheckpointError: it is another one, or the file cannot be read.
    """
    described = _read_description(pattern, addresses, read)
    # A worker may not have the variant in its table.
    if described is None or described == _Description(variant.name, {}):
        return
    found = _variant_of(described, pattern, addresses) if described.name in VARIANTS else None
    if found is None or found.network != variant.network:
        own = found is not None and is_own(found)
        name = described.name if found is None or own else found.name
        remedy = "no --variants, but --model_name" if own else f"--variants {name}"
        raise CheckpointError(
            f"--checkpoints {pattern}: {_config_beside(addresses)} is of {name!r}"
            f"{' with model_args of its own' if own else ''}; expected {variant.name!r}, or "
            f"{remedy}"
        )


def described_variant(
    pattern: str, addresses: Sequence[str], read: Callable[[str], bytes | None]
) -> Variant | None:
    """The variant that a `config.json` beside the only file of weights describes, if there is one.

    Args:
        pattern: the value of `--checkpoints`, for messages.
        addresses: the paths or URLs of all files that it leads to.
        read: reads a small file, or returns None where there is none.

    Returns:
        One of the table, or an architecture of the user's own.

    Raises:
        CheckpointError: the file cannot be read, or describes something else.
    """
    described = _read_description(pattern, addresses, read)
    return None if described is None else _variant_of(described, pattern, addresses)


@dataclasses.dataclass(frozen=True)
class _Description:
    """What a `config.json` says: timm's name of an architecture, and arguments that differ."""

    name: str
    model_args: Mapping[str, Any]


def _read_description(
    pattern: str, addresses: Sequence[str], read: Callable[[str], bytes | None]
) -> _Description | None:
    config = _config_beside(addresses)
    if config is None or not _unnamed_weights(addresses):
        return None
    try:
        if (content := read(config)) is None:
            return None
        found = json.loads(content)
        name, model_args = found.get("architecture"), found.get("model_args") or {}
        if not isinstance(model_args, dict):
            raise ValueError("model_args is no object")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"--checkpoints {pattern}: {config} cannot be read ({error}); expected JSON with an "
            "architecture"
        ) from None
    # timm writes the pretrained tag behind a point.
    return None if name is None else _Description(str(name).split(".")[0], model_args)


def _variant_of(described: _Description, pattern: str, addresses: Sequence[str]) -> Variant:
    if described.name not in VARIANTS:
        raise CheckpointError(
            f"--checkpoints {pattern}: weights of {described.name!r}; expected one of "
            f"{', '.join(VARIANTS)}, or --variants with the one that they are of"
        )
    try:
        return variant_of(described.name, described.model_args)
    except ValueError as error:
        raise CheckpointError(
            f"--checkpoints {pattern}: {_config_beside(addresses)}: model_args: {error}"
        ) from None


def _config_beside(addresses: Sequence[str]) -> str | None:
    """The address of the `config.json` beside files, which are in one directory."""
    directories = {address.removesuffix(_name(address)) for address in addresses}
    return f"{directories.pop()}{CONFIG}" if len(directories) == 1 else None


def _only_file(pattern: str, addresses: Sequence[str], names: Sequence[str]) -> str:
    """The address of the only file with the first of the names that any file has.

    Args:
        pattern: the value of `--checkpoints`, for messages.
        addresses: the addresses of all files.
        names: the names, the preferred one first.

    Raises:
        CheckpointError: no file has one of the names, or several have the same.
    """
    for name in names:
        found = [address for address in addresses if _name(address) == name]
        if len(found) > 1:
            raise CheckpointError(
                f"--checkpoints {pattern}: {len(found)} files named {name}, among them "
                f"{found[0]} and {found[1]}; expected one"
            )
        if found:
            return found[0]
    nothing = "" if addresses else ", nor any other"
    raise CheckpointError(
        f"--checkpoints {pattern}: no file {' or '.join(names)} there{nothing}; "
        "expected a directory or a glob that contains it, 'hf' or 'random'"
    )
