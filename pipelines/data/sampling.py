"""Choosing a class-balanced sample of labelled images, the same one for the same seed."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from export.errors import UserError

from ..runtime.files import InputFile, find_files, read_bytes
from .formats import EXPECTED
from .image_folder import SUFFIXES, read_image_folder
from .labelled import LabelledImage, is_directory, labelled_image, require_label
from .shards import SampleImage, can_decode, read_shard


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
    ordered: bool
    """Whether classes are numbered in the alphabetical order of their names."""

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

    def __init__(self, root: str, only_jpeg_png: bool) -> None:
        folder = read_image_folder(root, "--images")
        self.ordered = folder.ordered
        self._root = folder.root
        self._only_jpeg_png = only_jpeg_png
        self.candidates = tuple(Candidate(file.name, file.label) for file in folder.files)

    def fetch(self, chosen: Collection[Candidate]) -> dict[Candidate, LabelledImage]:
        found = {}
        for candidate in chosen:
            path = f"{self._root}/{candidate.place}"
            try:
                encoded = read_bytes(path)
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
            found[candidate] = labelled_image(
                candidate.place,
                encoded,
                candidate.label,
                self._only_jpeg_png,
                candidate.place.lower().endswith(SUFFIXES),
            )
        return found


class FileSource:
    """The images of files of many. Each choice is one pass over them.

    Args:
        files: the files.
        first_label: what they call class 0; None for what is usual for their layout.
        only_jpeg_png: whether images of other formats are left out.

    Raises:
        UserError: see `read_shard`; or an image has no label.
    """

    def __init__(
        self, files: Sequence[InputFile], first_label: int | None, only_jpeg_png: bool
    ) -> None:
        self.ordered = False
        self._files = tuple(files)
        self._first_label = first_label
        self._only_jpeg_png = only_jpeg_png
        candidates = []
        for path, image in self._images():
            label = require_label(f"--images {path}", image)
            candidates.append(Candidate(_place(path, image.number), label))
        self.candidates = tuple(candidates)

    def fetch(self, chosen: Collection[Candidate]) -> dict[Candidate, LabelledImage]:
        found = {}
        for path, image in self._images():
            candidate = Candidate(_place(path, image.number), image.label or 0)
            if candidate in chosen:
                found[candidate] = labelled_image(
                    image.name, image.encoded, candidate.label, self._only_jpeg_png
                )
        return found

    def _images(self) -> Iterator[tuple[str, SampleImage]]:
        for file in self._files:
            for image in read_shard(file.address, self._first_label, file.stamp, convert=False):
                yield file.address, image


def open_source(
    pattern: str, first_label: int | None = None, only_jpeg_png: bool = False
) -> ImageSource:
    """The source that a directory or a glob names.

    Args:
        pattern: the path or the URL of either.
        first_label: see `FileSource`.
        only_jpeg_png: whether images of other formats are left out, in place of being converted.

    Raises:
        UserError: there is none, or it is not labelled images.
    """
    try:
        files = find_files(pattern)
        if not files and is_directory(pattern):
            return FolderSource(pattern, only_jpeg_png)
    except OSError as error:
        raise UserError(f"--images {pattern}: cannot be listed ({error})") from None
    if not files:
        raise UserError(
            f"--images {pattern}: no file matches; expected a directory with one directory for "
            f"each class, or {EXPECTED}, of labelled images"
        )
    return FileSource(files, first_label, only_jpeg_png)


def sample(
    source: ImageSource,
    count: int,
    seed: int,
    passed_over: Callable[[LabelledImage], None] = lambda image: None,
) -> list[LabelledImage]:
    """A class-balanced sample of images that can be decoded, its classes mixed.

    Every class gives the same number of images; where the count can't be divided so, some classes
    give one more. What is chosen depends on the seed and on the images' places alone.

    Args:
        source: of the images.
        count: of the sample.
        seed: number of the choice.
        passed_over: called with each image that was chosen first and cannot be decoded, or is not
            to be in a sample.

    Raises:
        UserError: a class has too few images.
    """
    left = set(source.candidates)
    images: dict[Candidate, LabelledImage] = {}
    while True:
        chosen = choose(left, count, seed)
        new = source.fetch({candidate for candidate in chosen if candidate not in images})
        images |= new
        bad = [candidate for candidate, image in new.items() if not can_decode(image.encoded)]
        if not bad:
            return [images[candidate] for candidate in chosen]
        for candidate in sorted(bad):
            passed_over(new[candidate])
        left -= set(bad)


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
