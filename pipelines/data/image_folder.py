"""Images in a directory for each class, as ImageNet and most data sets of photographs come.

How the directories' names give the numbers of a model's classes, `ModelClasses` says. For a sample,
which is of no model, it is the first rule that fits all of them:

1. WordNet ids of ImageNet-1k, such as `n01440764`: their place in the table of labels. Not every
   class has to be there.
2. Numbers, such as `0` or `017`: the classes' numbers.
3. Any other names: their place in alphabetical order, from 0.

Every file of a class's directory belongs to the data, whatever it is called: what it is shows when
it is read. Hidden files do not belong, nor do images in no class's directory; they are named.
"""

import dataclasses
import glob
import os
import pathlib
import re

from export.errors import UserError
from signatures.addresses import is_url
from signatures.other_formats import SUFFIXES as OTHER_SUFFIXES

from ..runtime.files import describe_file, find_files
from .class_names import ModelClasses
from .labels import wordnet_ids

SUFFIXES = (".jpeg", ".jpg", ".png", *OTHER_SUFFIXES)
"""Names of images end so, in any case."""

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
        files: all files of classes, by class and then by name.
        stamps: size and time of the last change of each.
        ordered: whether classes are numbered in the alphabetical order of their names.
        left_out: names of other files, and why they are not among the files.
    """

    root: str
    files: tuple[ImageFile, ...]
    stamps: tuple[str, ...]
    ordered: bool
    left_out: tuple[str, ...] = ()


def read_image_folder(root: str, flag: str, classes: ModelClasses | None = None) -> ImageFolder:
    """Lists a tree. No image is opened.

    Args:
        root: directory that holds a directory for each class, or its URL.
        flag: the flag that named it, for messages.
        classes: of the model that directories are named after; None for a sample, of no model.

    Raises:
        UserError: there are no class directories, their names fit no rule, or no class has an
            image.
    """
    where = f"{flag} {root}"
    stamps = _url_files(root) if is_url(root) else _local_files(root)
    images, left_out = _by_directory(stamps)
    names = sorted(images)
    if not names:
        raise UserError(f"{where}: no directories in it; expected one for each class")
    if classes is None:
        labels, ordered = _labels(names, where)
    else:
        labels, ordered = classes.number_directories(names, where), False
    found = [
        (ImageFile(name, labels[directory]), stamp)
        for directory in sorted(names, key=lambda name: (labels[name], name))
        for name, stamp in sorted(images[directory].items())
    ]
    if not any(file.name.lower().endswith(SUFFIXES) for file, _ in found):
        raise UserError(
            f"{where}: no images in its {len(names)} directories; expected files named "
            f"{', '.join('*' + suffix for suffix in SUFFIXES)}"
        )
    files, of_files = zip(*found, strict=True)
    top = root.rstrip("/") if is_url(root) else str(pathlib.Path(root).absolute())
    return ImageFolder(top, files, of_files, ordered, tuple(sorted(left_out)))


def _labels(names: list[str], where: str) -> tuple[dict[str, int], bool]:
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
        return {name: wordnet_ids()[name] for name in ids}, False
    if numbers:
        return {name: int(name) for name in numbers}, False
    return {name: number for number, name in enumerate(names)}, True


_Stamps = dict[str, str | None]
"""Path below the root, with slashes -> its stamp; None for a directory."""


def _local_files(root: str) -> _Stamps:
    stamps: _Stamps = {}
    for parent, directories, files in os.walk(root, followlinks=True):
        for name in directories:
            stamps[pathlib.Path(parent, name).relative_to(root).as_posix()] = None
        for name in files:
            path = pathlib.Path(parent, name)
            file = describe_file(str(path))
            stamps[path.relative_to(root).as_posix()] = f"{file.size} {file.stamp}"
    return stamps


def _url_files(root: str) -> _Stamps:
    top = root.rstrip("/")
    files = find_files(f"{glob.escape(top)}/**", checksums=False)
    return {file.address[len(top) + 1 :]: f"{file.size} {file.stamp}" for file in files}


def _by_directory(stamps: _Stamps) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The files of each class's directory, with their stamps, and those of none."""
    images: dict[str, dict[str, str]] = {}
    left_out = []
    for name, stamp in stamps.items():
        directory, slash, _ = name.partition("/")
        if directory.startswith("."):
            continue  # No class: a directory of a program's own.
        if stamp is None:
            if not slash:
                images.setdefault(directory, {})
        elif any(part.startswith(".") for part in name.split("/")):
            left_out.append(f"{name}: hidden")
        elif slash:
            images.setdefault(directory, {})[name] = stamp
        elif name.lower().endswith(SUFFIXES):
            left_out.append(f"{name}: in no class's directory")
    return images, left_out
