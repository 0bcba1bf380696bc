"""Which classes a model takes for which: accuracy by class, and the confusion matrix.

`matplotlib` draws it, where it is installed.
"""

import collections
import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from signatures.tables import markdown_table

from .scores import ServedModel, ShardScore

Pairs = dict[tuple[int, int], int]
"""The right class and the model's answer -> images. Only pairs that there are."""

_LISTED = 20
"""Pairs of classes that the report names."""

_NAMED_ON_AXES = 40
"""The most classes whose names a picture has room for."""

_COLOURS = "cividis"


def pairs_of(scores: Sequence[ShardScore]) -> Pairs:
    """The counts of all shards together."""
    pairs: collections.Counter[tuple[int, int]] = collections.Counter()
    for score in scores:
        for right, found, images in score.confusion:
            pairs[right, found] += images
    return dict(pairs)


def by_class(pairs: Pairs, names: Sequence[str]) -> list[dict[str, Any]]:
    """The accuracy of every class that there are images of, in the order of the classes.

    Args:
        pairs: the counts.
        names: of the classes.

    Returns:
        For each its `class` (number), `name`, `images`, `correct` and `percent`.
    """
    images: collections.Counter[int] = collections.Counter()
    for (right, _), count in pairs.items():
        images[right] += count
    return [
        {
            "class": number,
            "name": names[number],
            "images": images[number],
            "correct": pairs.get((number, number), 0),
            "percent": 100 * pairs.get((number, number), 0) / images[number],
        }
        for number in sorted(images)
    ]


def most_confused(pairs: Pairs, names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of classes that are confused most often: at most so many as a report names.

    Returns:
        For each the names `right` and `answer`, and `images`; of equal counts the lower class is
        first.
    """
    wrong = [(count, pair) for pair, count in pairs.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda entry: (-entry[0], entry[1]))
    return [
        {"right": names[right], "answer": names[found], "images": count}
        for count, (right, found) in wrong[:_LISTED]
    ]


def lines_of(entry: Mapping[str, Any]) -> list[str]:
    """The classes with the lowest accuracy and the pairs that are confused most often, as Markdown.

    Args:
        entry: what is reported of a model, with the results of the functions above.
    """
    if not entry["classes"]:
        return []
    lowest = sorted(entry["classes"], key=lambda each: each["percent"])[:_LISTED]
    lines = ["", "Lowest top-1 by class:", ""]
    columns = ("class", "name", "percent", "images", "correct")
    rows = [
        (str(c["class"]), c["name"], f"{c['percent']:.3f}", str(c["images"]), str(c["correct"]))
        for c in lowest
    ]
    lines += markdown_table([columns, *rows])
    if pairs := [(p["right"], p["answer"], str(p["images"])) for p in entry["confused"]]:
        lines += ["", "Confused most often:", ""]
        lines += markdown_table([("right class", "answer", "images"), *pairs])
    return lines


def files_of(model: ServedModel, scores: Sequence[ShardScore]) -> dict[str, bytes]:
    """The files about a model's classes: their path below the results' directory -> content.

    Without matplotlib there is no picture.
    """
    pairs, names = pairs_of(scores), model.class_names
    folder = f"{model.name}-{model.version}"
    files = {
        f"{folder}/classes.csv": classes_csv(pairs, names),
        f"{folder}/confusion.csv": confusion_csv(pairs, names),
    }
    if can_draw():
        files[f"{folder}/confusion.png"] = confusion_png(pairs, names, model.title)
    return files


def classes_csv(pairs: Pairs, names: Sequence[str]) -> bytes:
    """A line for each class with images."""
    text = io.StringIO()
    columns = ["class", "name", "images", "correct", "percent"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(by_class(pairs, names))
    return text.getvalue().encode()


def confusion_csv(pairs: Pairs, names: Sequence[str]) -> bytes:
    """The matrix: a line for each right class, a column for each answer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["right class", *names])
    writer.writerows(
        [name, *row] for name, row in zip(names, _matrix(pairs, names).tolist(), strict=True)
    )
    return text.getvalue().encode()


def can_draw() -> bool:
    """Whether there is what draws the picture."""
    return importlib.util.find_spec("matplotlib") is not None


def confusion_png(pairs: Pairs, names: Sequence[str], title: str) -> bytes:
    """The matrix as a picture: the share of a class's images that have each answer."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    matrix = _matrix(pairs, names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    named = len(names) <= _NAMED_ON_AXES
    side = 4.0 + 0.25 * len(names) if named else 12.0
    content = io.BytesIO()
    # Names may have the marks of mathematics.
    with mpl.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap=_COLOURS, interpolation="nearest")
        axes.set(title=title, xlabel="answer", ylabel="right class")
        if named:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's images")
        figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _matrix(pairs: Pairs, names: Sequence[str]) -> npt.NDArray[np.int64]:
    matrix = np.zeros((len(names), len(names)), np.int64)
    for pair, count in pairs.items():
        matrix[pair] = count
    return matrix
