"""Names of ImageNet-1k's classes, in the order of the classifiers' outputs."""

import csv
import functools
import pathlib

_TABLE = pathlib.Path(__file__).with_name("imagenet_labels.tsv")


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 labels, such as "tench, Tinca tinca", by class number."""
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(row["lemmas"] for row in csv.DictReader(file, delimiter="\t"))
