"""Choosing a class-balanced sample of labelled images, the same one for the same seed."""

import collections
import dataclasses
import glob
import hashlib
import os
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from export.errors import UserError

from .image_folder import read_image_folder
from .labelled import LabelledImage
from .shards import LABEL_KEY, can_decode, read_shard


@dataclasses.dataclass(frozen=True, order=True)
class Candidate:
    """An image that may be chosen.

    Attributes:
        place: what it is found by, unique in its source.
        label: number of its class.
    """

    place: str
    label: int


class ImageSource(Protocol):
    """Where a sample is taken from."""

    candidates: tuple[Candidate, ...]

    def fetch(self, chosen: Collection[Candidate]) -> dict[Candidate, LabelledImage]:
        """Reads some of the images.

        Raises:
            UserError: a file can't be read.
        """


class FolderSource:
    """An ImageFolder's images.

    Raises:
        UserError: see `read_image_folder`.
    """

    def __init__(self, root: str) -> None:
        folder = read_image_folder(root, "--images")
        self._root = pathlib.Path(folder.root)
        self.candidates = tuple(Candidate(file.name, file.label) for file in folder.files)

    def fetch(self, chosen: Collection[Candidate]) -> dict[Candidate, LabelledImage]:
        found = {}
        for candidate in chosen:
            path = self._root / candidate.place
            try:
                encoded = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from None
            found[candidate] = LabelledImage(candidate.place, encoded, candidate.label)
        return found


class RecordSource:
    """The images of TFRecord files. Each choice is one pass over them.

    Args:
        paths: the files.
        first_label: what they call class 0.

    Raises:
        UserError: see `read_shard`; or a record has no label.
    """

    def __init__(self, paths: Sequence[str], first_label: int) -> None:
        self._paths = tuple(paths)
        self._first_label = first_label
        candidates = []
        for path in self._paths:
            for image in read_shard(path, first_label):
                if image.label is None:
                    raise UserError(
                        f"--images {path}: record {image.number} has no {LABEL_KEY}; expected "
                        "the number of its class"
                    )
                candidates.append(Candidate(_place(path, image.number), image.label))
        self.candidates = tuple(candidates)

    def fetch(self, chosen: Collection[Candidate]) -> dict[Candidate, LabelledImage]:
        found = {}
        for path in self._paths:
            for image in read_shard(path, self._first_label):
                candidate = Candidate(_place(path, image.number), image.label or 0)
                if candidate in chosen:
                    found[candidate] = LabelledImage(image.name, image.encoded, candidate.label)
        return found


def open_source(pattern: str, first_label: int) -> ImageSource:
    """The source that a directory or a glob names.

    Raises:
        UserError: there is none, or it is not labelled images.
    """
    if os.path.isdir(pattern):
        return FolderSource(pattern)
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise UserError(
            f"--images {pattern}: no file matches; expected a directory with one directory for "
            "each class, or TFRecord files of labelled images"
        )
    return RecordSource(paths, first_label)


def sample(source: ImageSource, count: int, seed: int) -> list[LabelledImage]:
    """A class-balanced sample of images that can be decoded, its classes mixed.

    Every class gives the same number of images; where the count can't be divided so, some classes
    give one more. What is chosen depends on the seed and on the images' places alone.

    Raises:
        UserError: a class has too few images.
    """
    left = set(source.candidates)
    images: dict[Candidate, LabelledImage] = {}
    while True:
        chosen = choose(left, count, seed)
        new = source.fetch({candidate for candidate in chosen if candidate not in images})
        images |= new
        bad = {candidate for candidate, image in new.items() if not can_decode(image.encoded)}
        if not bad:
            return [images[candidate] for candidate in chosen]
        left -= bad


def choose(candidates: Iterable[Candidate], count: int, seed: int) -> list[Candidate]:
    """The choice of `sample`, if all of them can be decoded.

    Raises:
        UserError: a class has too few of them.
    """

    def order(what: str) -> bytes:
        return hashlib.sha256(f"{seed}:{what}".encode()).digest()

    by_class: dict[int, list[Candidate]] = collections.defaultdict(list)
    for candidate in sorted(candidates, key=lambda candidate: order(candidate.place)):
        by_class[candidate.label].append(candidate)
    share, more = divmod(count, max(len(by_class), 1))
    for label, found in sorted(by_class.items()):
        if len(found) < share:
            raise UserError(
                f"--count {count}: {share} images of each of the {len(by_class)} classes are "
                f"needed; class {label} has {len(found)} that can be decoded"
            )
    giving = sorted(
        (label for label, found in by_class.items() if len(found) > share),
        key=lambda label: order(f"class {label}"),
    )
    if len(giving) < more:
        raise UserError(
            f"--count {count}: {share + 1} images of {more} classes are needed; {len(giving)} "
            "classes have as many that can be decoded"
        )
    chosen = [
        candidate
        for label, found in by_class.items()
        for candidate in found[: share + (label in giving[:more])]
    ]
    return sorted(chosen, key=lambda candidate: order(candidate.place))


def _place(path: str, number: int) -> str:
    return f"{os.path.basename(path)}#{number}"
