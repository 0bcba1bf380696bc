"""Which class a label means: the numbering of a file's classes, and ImageNet's WordNet ids."""

import csv
import functools
import importlib.resources

from export.errors import UserError

CLASSES = 1000


@functools.cache
def wordnet_ids() -> dict[str, int]:
    """WordNet id -> number of the class, for ImageNet-1k's 1000 classes."""
    table = importlib.resources.files("signatures") / "imagenet_labels.tsv"
    with table.open(encoding="utf-8") as file:
        return {row["wnid"]: int(row["index"]) for row in csv.DictReader(file, delimiter="\t")}


def class_of(stored: int, first: int | None, where: str, wordnet_id: str | None = None) -> int:
    """The number of a class, from 0.

    A WordNet id beside the number settles how the file numbers its classes: TensorFlow's models
    write ImageNet's from 1, and leave 0 to the background.

    Args:
        stored: the number in the file.
        first: what the file calls class 0; None for 0, or what the WordNet id says.
        where: the record and the name of its label, for messages.
        wordnet_id: of the same class, where the file has it.

    Raises:
        UserError: the number is of none of the 1000 classes, or contradicts the WordNet id.
    """
    known = wordnet_ids().get(wordnet_id or "")
    if known is not None:
        expected = (known, known + 1) if first is None else (known + first,)
        if stored not in expected:
            raise UserError(
                f"{where} {stored} and the WordNet id {wordnet_id}, which is class {known}; "
                f"expected {' or '.join(map(str, expected))} there"
                + ("" if first is None else f" by --first_label {first}")
            )
        return known
    least = first or 0
    if not least <= stored < least + CLASSES:
        hint = "; from files that number classes from 1, with --first_label 1"
        raise UserError(
            f"{where} {stored}; expected {least} to {least + CLASSES - 1}"
            + (hint if first is None and stored == CLASSES else "")
        )
    return stored - least


def class_of_text(text: str, first: int | None, where: str) -> int:
    """The number of a class that a file writes as text: a number, or a WordNet id.

    Raises:
        UserError: it is neither, or see `class_of`.
    """
    text = text.strip()
    if text in wordnet_ids():
        return wordnet_ids()[text]
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise UserError(f"{where} {text[:40]!r}; expected the number of a class or its WordNet id")
    return class_of(int(text), first, where)
