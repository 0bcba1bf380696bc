"""Finding a variant's file of weights in a directory."""

import dataclasses
import glob
import json
import os
import pathlib
from collections.abc import Sequence

from ..errors import CheckpointError
from ..variants import Variant


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A directory, or a glob, with `<variant>.safetensors` or DeiT's file, such as `S24_224.pth`.

    Of the two, the safetensors file is preferred. Without any of them the only file of weights is
    taken, such as `model.safetensors` of a hub or `best.pth` of a trainer, if the architecture in
    the `config.json` beside it, where there is one, is the variant.

    Attributes:
        pattern: the file, the directory or the glob.
    """

    pattern: str
    trained: bool = True

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        directory = pathlib.Path(self.pattern)
        paths = map(str, directory.iterdir()) if directory.is_dir() else glob.glob(self.pattern)
        files = sorted(path for path in paths if os.path.isfile(path))
        names = file_names(variant)
        if not any(os.path.basename(path) in names for path in files):
            _check_architecture(self.pattern, files, variant)
            names += _unnamed_weights(files)
        found = only_file(self.pattern, files, names)
        return pathlib.Path(found), found


def file_names(variant: Variant) -> list[str]:
    """The possible names of a file with a variant's weights, the preferred one first."""
    return [f"{variant.name}.safetensors", *([variant.deit_file] if variant.deit_file else [])]


_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_CONFIG = "config.json"


def _unnamed_weights(files: Sequence[str]) -> list[str]:
    """The name of the only file of weights that is named after no variant, if there is one."""
    names = [os.path.basename(path) for path in files]
    of_hub = [name for name in _HUB_NAMES if name in names]
    if of_hub:
        return of_hub[:1]
    weights = [name for name in names if name.endswith(_SUFFIXES)]
    return weights if len(weights) == 1 else []


def _check_architecture(pattern: str, files: Sequence[str], variant: Variant) -> None:
    """Compares the architecture in a hub's `config.json` with the variant.

    Raises:
        CheckpointError: it is another one, or the file cannot be read.
    """
    directories = {os.path.dirname(path) for path in files}
    config = pathlib.Path(directories.pop(), _CONFIG) if len(directories) == 1 else None
    if config is None or not config.is_file():
        return
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        architecture = content.get("architecture", variant.name)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"--checkpoints {pattern}: {config} cannot be read ({error}); expected JSON with an "
            "architecture"
        ) from None
    # timm writes the pretrained tag behind a point.
    if str(architecture).split(".")[0] != variant.name:
        raise CheckpointError(
            f"--checkpoints {pattern}: {config} is of {architecture!r}; expected "
            f"{variant.name!r}, or --variants {str(architecture).split('.')[0]}"
        )


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
