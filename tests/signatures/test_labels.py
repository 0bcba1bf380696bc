"""The labels of the classifiers' outputs."""

import csv
import pathlib

import signatures.labels
from signatures.labels import imagenet_labels


def test_there_is_a_label_for_each_class_in_order() -> None:
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert labels[0] == "tench, Tinca tinca"
    assert labels[207] == "golden retriever"
    assert labels[999] == "toilet tissue, toilet paper, bathroom tissue"
    assert all(label and label == label.strip() for label in labels)


def test_labels_are_those_of_the_table() -> None:
    table = pathlib.Path(signatures.labels.__file__).with_name("imagenet_labels.tsv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows[0] == ["index", "wnid", "lemmas"]
    assert [int(row[0]) for row in rows[1:]] == list(range(1000))
    assert [row[2] for row in rows[1:]] == list(imagenet_labels())
    # Class numbers go by the order of WordNet's numbers; labels repeat ("crane").
    wordnet = [row[1] for row in rows[1:]]
    assert wordnet == sorted(set(wordnet))
