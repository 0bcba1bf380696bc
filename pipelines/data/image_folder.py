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
from signatures.addresses import is_url

from ..runtime.files import describe_file, find_files

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
        stamps: size and time of the last change of each.
        ordered: number of classes where they are numbered in alphabetical order, else None.
    """

    root: str
    files: tuple[ImageFile, ...]
    stamps: tuple[str, ...]
    ordered: int | None


def read_image_folder(root: str, flag: str) -> ImageFolder:
    """Lists a tree. No image is opened.

    Args:
        root: directory that holds a directory for each class, or its URL.
        flag: the flag that named it, for messages.

    Raises:
        UserError: there are no class directories, their names mix the rules, or no class has an
            image.
    """
    where = f"{flag} {root}"
    images = _url_images(root) if is_url(root) else _local_images(root)
    names = sorted(images)
    if not names:
        raise UserError(f"{where}: no directories in it; expected one for each class")
    labels, ordered = _labels(names, where)
    found = [
        (ImageFile(name, labels[directory]), stamp)
        for directory in sorted(names, key=lambda name: (labels[name], name))
        for name, stamp in sorted(images[directory].items())
    ]
    if not found:
        raise UserError(
            f"{where}: no images in its {len(names)} directories; expected files named "
            f"{', '.join('*' + suffix for suffix in SUFFIXES)}"
        )
    files, stamps = zip(*found, strict=True)
    top = root.rstrip("/") if is_url(root) else str(pathlib.Path(root).absolute())
    return ImageFolder(top, files, stamps, ordered)


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


_Images = dict[str, dict[str, str]]
"""Directory of a class -> its images by their path below the root -> their stamps."""


def _local_images(root: str) -> _Images:
    images: _Images = {}
    for entry in os.scandir(root):
        if not entry.is_dir() or entry.name[0] == ".":
            continue
        found = images[entry.name] = {}
        for parent, _, files in os.walk(entry.path, followlinks=True):
            for path in (pathlib.Path(parent, name) for name in files if _is_image(name)):
                file = describe_file(str(path))
                found[path.relative_to(root).as_posix()] = f"{file.size} {file.stamp}"
    return images


def _url_images(root: str) -> _Images:
    top = root.rstrip("/")
    images: _Images = {}
    for file in find_files(f"{top}/**", checksums=False):
        name = file.address[len(top) + 1 :]
        directory, _, rest = name.partition("/")
        if rest and directory[0] != ".":
            found = images.setdefault(directory, {})
            if _is_image(rest.rsplit("/", 1)[-1]):
                found[name] = f"{file.size} {file.stamp}"
    return images


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and name[0] != "."
