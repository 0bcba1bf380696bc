"""Names in data, matched to a model's classes: by name, by WordNet id, by number."""

import unicodedata

import pytest

from export.errors import UserError
from pipelines.data.class_names import ModelClasses
from pipelines.data.labelled import plan_data
from pipelines.data.labels import wordnet_ids
from signatures.labels import default_labels
from tests.support.image_files import write_parquet

PETS = ModelClasses("pets 1", ("hamster", "cat", "Élan", "dog, hound"))
IMAGENET = ModelClasses("cait 1", default_labels(1000))
DIGITS = ModelClasses("digits 1", ("7", "0", "3"))
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("classes", "names", "numbers"),
    [
        (PETS, ["cat", "dog, hound", "hamster", "Élan"], [1, 3, 0, 2]),
        # Not every class has to be there.
        (PETS, ["dog, hound"], [3]),
        (PETS, [unicodedata.normalize("NFD", "Élan"), "cat"], [2, 1]),
        (PETS, ["3", "01"], [3, 1]),
        # A name that is a number is a name first.
        (DIGITS, ["0", "3", "7"], [1, 2, 0]),
        (DIGITS, ["1", "2"], [1, 2]),
        (IMAGENET, ["n01440764", "n01443537"], [0, 1]),
        (IMAGENET, ["tench, Tinca tinca", "golden retriever"], [0, 207]),
        (IMAGENET, ["017", "999"], [17, 999]),
        (ModelClasses("own 1", ("n02123045", "n01440764")), ["n01440764"], [1]),
        (ModelClasses("unnamed 1", default_labels(3)), ["0", "2"], [0, 2]),
    ],
)
def test_directories_are_classes_by_the_first_rule_that_fits_all(classes, names, numbers):
    assert list(classes.number_directories(names, "--data x").values()) == numbers


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (
            PETS,
            ["cats", "hamster"],
            r"'cats' is no class of pets 1 \(did you mean 'cat'\?\); expected, of one kind for all "
            r"of them, names of its 4 classes \('hamster', 'cat', 'Élan', ...\), or numbers from 0 "
            "to 3",
        ),
        # In the alphabetical order of all classes, which is not the model's.
        (PETS, ["a", "b", "c", "d"], "'a' is no class of pets 1"),
        (PETS, ["n01440764"], "'n01440764' is no class of pets 1"),
        (PETS, ["0", "1", "4"], "'0' is no class of pets 1;"),
        (PETS, ["cat", "3"], "'3' is no class of pets 1"),
        (PETS, ["1", "01"], "'1' and '01' both mean class 1 of pets 1; expected one of them"),
        (IMAGENET, ["n01440764", "cat"], r"'cat' is no class.*, WordNet ids, or numbers from 0"),
        (IMAGENET, ["n01440764", "n00000001"], "'n00000001' is no class of cait 1"),
        (IMAGENET, ["crane"], "'crane' is the name of several classes of cait 1; expected numbers"),
        (ModelClasses("own 1", tuple(wordnet_ids())[::-1]), ["x"], "'x' is no class of own 1"),
        (ModelClasses("unnamed 1", default_labels(3)), ["cat"], r".*\('0', '1', '2'\), or numbers"),
    ],
)
def test_directories_of_anything_else_are_refused(classes, names, message):
    with pytest.raises(UserError, match=f"--data x: {message}") as refused:
        classes.number_directories(names, "--data x")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("classes", "names", "numbers"),
    [
        (PETS, ["cat", "hamster"], (1, 0)),
        # As it is, with names that several classes have.
        (IMAGENET, IMAGENET.labels, tuple(range(1000))),
        # One of them written otherwise.
        (PETS, ["hamster", "cat", "elan", "dog, hound"], (0, 1, 2, 3)),
        (ModelClasses("unnamed 1", default_labels(2)), ["cat", "dog"], (0, 1)),
        (PETS, ["cat", "hamster", "elan", "dog"], None),
        (PETS, ["a", "b", "c", "d"], None),
        (ModelClasses("unnamed 1", default_labels(3)), ["cat", "dog"], None),
    ],
)
def test_a_table_s_own_names_give_the_model_s_numbers(classes, names, numbers, tmp_path):
    write_parquet(tmp_path / "p", [(PNG, 1), (PNG, 0)], names)
    if numbers is None:
        with pytest.raises(UserError, match=rf"p: its own description has {len(names)} classes"):
            plan_data([str(tmp_path / "p")], classes)
        return
    (shard,) = plan_data([str(tmp_path / "p")], classes)
    assert shard.numbers == numbers
    assert [image.label for image in shard.read()] == [numbers[1], numbers[0]]


def test_a_number_that_the_table_s_names_do_not_have_is_an_error(tmp_path):
    write_parquet(tmp_path / "p", [(PNG, 1), (PNG, 2)], ["cat", "hamster"])
    (shard,) = plan_data([str(tmp_path / "p")], PETS)
    with pytest.raises(UserError, match="row 1 has label 2; its own description has 2 classes"):
        list(shard.read())
