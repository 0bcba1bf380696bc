"""The file of class names for weights that were trained for other classes than ImageNet's."""

import pathlib
from collections.abc import Iterable

from export.errors import UserError

from ..elements import ConvertTask


def read_labels(path: pathlib.Path) -> tuple[str, ...]:
    """Reads the file: UTF-8 text with a class on each line, in the order of the head's outputs.

    Raises:
        UserError: it cannot be read, a line is empty, or two are the same.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--labels {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"--labels {path}: byte {error.start} is not UTF-8; expected a text file"
        ) from None
    # Not splitlines, for which a name may hold ends of lines.
    labels = tuple(line.strip() for line in text.rstrip().split("\n"))
    first: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise UserError(f"--labels {path}: line {number} is empty; expected a class on each")
        if first.setdefault(label, number) != number:
            raise UserError(
                f"--labels {path}: {label!r} is on lines {first[label]} and {number}; expected "
                "names that tell the classes apart"
            )
    return labels


def check_labels(path: pathlib.Path, labels: tuple[str, ...], tasks: Iterable[ConvertTask]) -> None:
    """Compares the number of names with the weights' number of classes.

    Raises:
        UserError: a checkpoint has another number of classes, or no head.
    """
    for task in tasks:
        if not task.checkpoint.num_classes:
            raise UserError(
                f"--labels {path}: {task.checkpoint.path} has no classification head; expected no "
                "--labels"
            )
        if task.checkpoint.num_classes != len(labels):
            raise UserError(
                f"--labels {path}: {len(labels)} names; {task.checkpoint.path} has "
                f"{task.checkpoint.num_classes} classes; expected a line for each of them"
            )
