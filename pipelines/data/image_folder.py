"""Images in a directory for each class, as ImageNet and most data sets of photographs come.

How the directories' names give the classes' numbers, the first rule that fits all of them:

1. WordNet ids of ImageNet-1k, such as `n01440764`: their place in the table of labels. Not every
   class has to be there.
2. Numbers, such as `0` or `017`: the classes' numbers.
3. Any other names: their place in alphabetical order, from 0. Then every class has to be there.
"""

import csv
import dataclasses
import functools
import importlib.resources
import os
import pathlib
import re

from export.errors import UserError

SUFFIXES = (".jpeg", ".jpg", ".png")
"""Names of images end so, in any case. Other files are passed over."""

_WORDNET_ID = re.compile(r"n\d{8}")


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """A file of the tree.

    Attributes:
        name: its path below the tree's root, with slashes.
        label: number of its class.
    """

    name: str
    label: int


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A tree of images.

    Attributes:
        root: its directory.
        files: all images, by class and then by name.
        ordered: number of classes where they are numbered in alphabetical order, else None.
    """

    root: str
    files: tuple[ImageFile, ...]
    ordered: int | None


def read_image_folder(root: str, flag: str) -> ImageFolder:
    """Lists a tree. No image is opened.

    Args:
        root: directory that holds a directory for each class.
        flag: the flag that named it, for messages.

    Raises:
        UserError: there are no class directories, their names mix the rules, or no class has an
            image.
    """
    where = f"{flag} {root}"
    names = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise UserError(f"{where}: no directories in it; expected one for each class")
    labels, ordered = _labels(names, where)
    files = tuple(
        ImageFile(name, labels[directory])
        for directory in sorted(names, key=lambda name: (labels[name], name))
        for name in _images(pathlib.Path(root), directory)
    )
    if not files:
        raise UserError(
            f"{where}: no images in its {len(names)} directories; expected files named "
            f"{', '.join('*' + suffix for suffix in SUFFIXES)}"
        )
    return ImageFolder(str(pathlib.Path(root).absolute()), files, ordered)


@functools.cache
def wordnet_ids() -> dict[str, int]:
    """WordNet id -> number of the class, for ImageNet-1k's 1000 classes."""
    table = importlib.resources.files("signatures") / "imagenet_labels.tsv"
    with table.open(encoding="utf-8") as file:
        return {row["wnid"]: int(row["index"]) for row in csv.DictReader(file, delimiter="\t")}


def _labels(names: list[str], where: str) -> tuple[dict[str, int], int | None]:
    ids = [name for name in names if _WORDNET_ID.fullmatch(name)]
    numbers = [name for name in names if name.isdecimal()]
    for found, rule in ((ids, "a WordNet id"), (numbers, "a number")):
        if found and len(found) < len(names):
            other = next(name for name in names if name not in found)
            raise UserError(
                f"{where}: directory {found[0]!r} is named by {rule} and {other!r} is not; "
                "expected names of one kind"
            )
    if ids:
        for name in ids:
            if name not in wordnet_ids():
                raise UserError(
                    f"{where}: directory {name!r} is none of ImageNet-1k's 1000 WordNet ids; "
                    "take it out, or name all directories otherwise"
                )
        return {name: wordnet_ids()[name] for name in ids}, None
    if numbers:
        return {name: int(name) for name in numbers}, None
    return {name: number for number, name in enumerate(names)}, len(names)


def _images(root: pathlib.Path, directory: str) -> list[str]:
    found = []
    for parent, directories, files in os.walk(root / directory, followlinks=True):
        directories.sort()
        for name in files:
            if name.lower().endswith(SUFFIXES) and name[0] != ".":
                found.append((pathlib.Path(parent) / name).relative_to(root).as_posix())
    return sorted(found)
