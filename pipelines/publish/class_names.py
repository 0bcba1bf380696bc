"""The file of class names for weights that were trained for other classes than ImageNet's."""

import dataclasses
import pathlib

from export.checkpoints.sources import Checkpoint
from export.errors import UserError
from signatures.files import read_file
from signatures.labels import default_labels


def read_labels(path: pathlib.Path) -> tuple[str, ...]:
    """Reads the file of `--labels`.

    Raises:
        UserError: it cannot be read, or see `parse_labels`.
    """
    subject = f"--labels {path}"
    try:
        return parse_labels(read_file(path), subject)
    except OSError as error:
        raise UserError(f"{subject}: cannot be read ({error.strerror})") from None


def parse_labels(content: bytes, subject: str) -> tuple[str, ...]:
    """The names in a file: UTF-8 text, a class on each line, in the order of the head's outputs.

    Args:
        content: of the file.
        subject: the file, as the error's first words.

    Raises:
        UserError: it is not such text, a line is empty, or two are the same.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{subject}: byte {error.start} is not UTF-8; expected a text file"
        ) from None
    # Not splitlines, for which a name may hold ends of lines.
    labels = tuple(line.strip() for line in text.rstrip().split("\n"))
    first: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise UserError(f"{subject}: line {number} is empty; expected a class on each")
        if first.setdefault(label, number) != number:
            raise UserError(
                f"{subject}: {label!r} is on lines {first[label]} and {number}; expected "
                "names that tell the classes apart"
            )
    return labels


def with_labels(checkpoint: Checkpoint, labels: tuple[str, ...], subject: str) -> Checkpoint:
    """A checkpoint with the names of its classes.

    Args:
        checkpoint: the checkpoint.
        labels: the names.
        subject: their file, as the error's first words.

    Raises:
        UserError: the checkpoint has another number of classes, or no head.
    """
    if not checkpoint.num_classes:
        raise UserError(
            f"{subject}: {checkpoint.path} has no classification head; expected no names"
        )
    if checkpoint.num_classes != len(labels):
        raise UserError(
            f"{subject}: {len(labels)} names; {checkpoint.path} has {checkpoint.num_classes} "
            "classes; expected a line for each of them"
        )
    # The default names are the same classes, whoever wrote them down.
    default = labels == default_labels(len(labels))
    return dataclasses.replace(checkpoint, labels=() if default else labels)
