"""Names of the classes, in the order of the classifiers' outputs."""

import csv
import functools
import pathlib

_TABLE = pathlib.Path(__file__).with_name("imagenet_labels.tsv")


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet-1k's 1000 labels, such as "tench, Tinca tinca", by class number."""
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(row["lemmas"] for row in csv.DictReader(file, delimiter="\t"))


def default_labels(num_classes: int) -> tuple[str, ...]:
    """ImageNet's labels for 1000 classes, else the numbers of the classes."""
    labels = imagenet_labels()
    if num_classes == len(labels):
        return labels
    return tuple(str(number) for number in range(num_classes))
