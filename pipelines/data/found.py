"""What the readers of all formats give: encoded images one by one, with their classes."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class FoundImage:
    """An image in a file of many.

    Attributes:
        name: what to call it in messages; empty where the file does not name it.
        encoded: content of an image file, of any format.
        label: number of its class, from 0; None where the file has none.
        place: what it is in the file, such as `record 3`.
        label_key: what its class is called in the file, such as `image/class/label`.
        classes: the names of the file's classes, by its numbers, where these are not of ImageNet by
            their WordNet ids; empty where the file does not name them.
    """

    name: str
    encoded: bytes
    label: int | None
    place: str
    label_key: str
    classes: tuple[str, ...] = ()


class FileReader(Protocol):
    """Reads the files of one format."""

    def __call__(self, path: pathlib.Path, where: str, first: int | None) -> Iterator[FoundImage]:
        """The images of a file, one by one.

        Args:
            path: the file, on this host's disk and not compressed.
            where: what to call it in messages.
            first: what it calls class 0; None for what is usual for its layout.

        Raises:
            UserError: it is damaged, or laid out otherwise than the format's reader knows. The
                message says what was found.
        """
