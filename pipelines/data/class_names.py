"""Which class of a model a name in data means: that of a directory, or one in a file."""

import dataclasses
import difflib
import unicodedata
from collections.abc import Sequence

from export.errors import UserError
from signatures.labels import imagenet_labels

from .labels import wordnet_ids


class UnknownClassError(UserError):
    """A name in data is not that of a class of the model."""


@dataclasses.dataclass(frozen=True)
class ModelClasses:
    """The classes of a model, by which data is numbered.

    Attributes:
        model: the model, for messages.
        labels: the names of its classes, by number.
    """

    model: str
    labels: tuple[str, ...]

    def number_directories(self, names: Sequence[str], where: str) -> dict[str, int]:
        """The numbers of the classes that directories are named after.

        The first of these that fits all of them: names of the model's classes, WordNet ids where
        these are ImageNet's, numbers.

        Args:
            names: of the directories, at least one.
            where: the directories' root, for messages.

        Raises:
            UserError: none fits.
        """
        by_name = self._by_name(names)
        if by_name is not None:
            return self._distinct(by_name, where)
        if self.labels == imagenet_labels() and all(name in wordnet_ids() for name in names):
            return {name: wordnet_ids()[name] for name in names}
        numbers = {name: int(name) for name in names if name.isascii() and name.isdecimal()}
        if len(numbers) == len(names) and max(numbers.values()) < len(self.labels):
            return self._distinct(numbers, where)
        raise UnknownClassError(f"{where}: {self._refusal(names)}")

    def number_classes(self, names: Sequence[str], where: str) -> tuple[int, ...]:
        """The numbers of the classes that a file has by its own numbers.

        Args:
            names: the names of the file's classes, by the file's numbers; at least one.
            where: the file, for messages.

        Raises:
            UserError: they are not the model's classes.
        """
        if tuple(names) == self.labels:
            return tuple(range(len(names)))
        by_name = self._by_name(names)
        if by_name is not None:
            self._distinct(by_name, where)
            return tuple(by_name[name] for name in names)
        # A model without names, or one that writes some of them otherwise.
        unnamed = self.labels == tuple(map(str, range(len(self.labels))))
        alike = [one for one, two in zip(names, self.labels, strict=False) if one == two]
        moved = set(names) & set(self.labels) - set(alike)
        same_order = unnamed or (2 * len(alike) >= len(names) and not moved)
        if len(names) == len(self.labels) and same_order:
            return tuple(range(len(names)))
        raise UnknownClassError(
            f"{where}: its own description has {len(names)} classes, and {self._refusal(names)}"
        )

    def _by_name(self, names: Sequence[str]) -> dict[str, int] | None:
        # A Mac writes names of directories with accents of their own.
        known = {unicodedata.normalize("NFC", label): i for i, label in enumerate(self.labels)}
        found = {name: known.get(unicodedata.normalize("NFC", name)) for name in names}
        numbers = {name: number for name, number in found.items() if number is not None}
        return numbers if len(numbers) == len(found) else None

    def _distinct(self, numbers: dict[str, int], where: str) -> dict[str, int]:
        """The numbers, if each name means one class and no two mean the same.

        Raises:
            UserError: they do not.
        """
        first: dict[int, str] = {}
        for name, number in numbers.items():
            label = self.labels[number]
            if self.labels.count(label) > 1 and not name.isdecimal():
                raise UserError(
                    f"{where}: {name!r} is the name of several classes of {self.model}; expected "
                    "numbers or WordNet ids"
                )
            if first.setdefault(number, name) != name:
                raise UserError(
                    f"{where}: {first[number]!r} and {name!r} both mean class {number} of "
                    f"{self.model}; expected one of them"
                )
        return numbers

    def _refusal(self, names: Sequence[str]) -> str:
        strange = [name for name in names if self._by_name([name]) is None]
        # Of names of two kinds the one that is of the rarer kind is the mistake.
        numbers = [name for name in strange if name.isdecimal()]
        ids = [name for name in strange if name in wordnet_ids()]
        words = [name for name in strange if name not in (*numbers, *ids)]
        name = min(filter(None, (words, ids, numbers)), key=len)[0]
        near = difflib.get_close_matches(name, self.labels, n=1)
        also = "WordNet ids, " if self.labels == imagenet_labels() else ""
        few = ", ".join(map(repr, self.labels[:3]))
        return (
            f"{name!r} is no class of {self.model}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
            + "; expected, of one kind for all of them, "
            + f"names of its {len(self.labels)} classes ({few}"
            + (", ...)" if len(self.labels) > 3 else ")")
            + f", {also}or numbers from 0 to {len(self.labels) - 1}"
        )
