"""The sample: balanced, reproducible, and of images that can be decoded."""

import collections
import io
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pipelines.data.labels import wordnet_ids
from pipelines.data.shards import SampleImage, read_shard
from pipelines.sample_shard import main

CLASSES = ("n01440764", "n01443537", "n02123045", "n03028079")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Seven PNGs of each of four classes, and one more that can't be decoded."""
    generator = np.random.default_rng(3)
    for name in CLASSES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(7):
            pixels = generator.integers(0, 256, (5, 5, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            (tmp_path / "images" / name / f"{number}.png").write_bytes(file.getvalue())
        (tmp_path / "images" / name / "bad.jpg").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture
def sampled(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> Callable[..., tuple[list[SampleImage], bytes]]:
    """Takes a sample into a file of a given name: its images, and its bytes."""

    def run(
        name: str, count: int, seed: int, images: str = str(folder), *flags: str
    ) -> tuple[list[SampleImage], bytes]:
        path = tmp_path / name
        arguments = ("--images", images, "--count", str(count), "--seed", str(seed))
        assert main([*arguments, "--output", str(path), *flags]) == 0
        return list(read_shard(str(path))), path.read_bytes()

    return run


def test_same_seed_gives_the_same_bytes_and_another_one_others(sampled):
    images, content = sampled("one", 12, 5)
    assert sampled("two", 12, 5)[1] == content
    others, _ = sampled("three", 12, 6)
    assert {image.name for image in images} != {image.name for image in others}


def test_classes_give_as_many_images_each(sampled, folder):
    images, _ = sampled("one", 28, 0)
    assert collections.Counter(image.label for image in images) == {
        wordnet_ids()[name]: 7 for name in CLASSES
    }
    # All that can be decoded, each with its own bytes and label, and the classes mixed.
    for image in images:
        assert image.encoded == (folder / image.name).read_bytes()
        assert image.label == wordnet_ids()[image.name.split("/")[0]]
    assert len({image.name for image in images}) == 28
    assert len({image.label for image in images[:7]}) > 1


def test_what_can_not_be_divided_is_one_more_of_some_classes(sampled):
    images, _ = sampled("one", 10, 1)
    counts = collections.Counter(image.label for image in images)
    assert sorted(counts.values()) == [2, 2, 3, 3]
    assert len(sampled("two", 3, 1)[0]) == 3


def test_shards_share_the_sample(sampled, folder, tmp_path, capfd):
    output = tmp_path / "new" / "s-00000-of-00003"
    flags = ("--images", str(folder), "--count", "10", "--seed", "1", "--output", str(output))
    assert main(flags) == 0
    assert "10 images of 4 classes in " in capfd.readouterr().out
    paths = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in paths] == [f"s-0000{i}-of-00003" for i in range(3)]
    shards = [[image.name for image in read_shard(str(path))] for path in paths]
    assert [len(shard) for shard in shards] == [4, 3, 3]
    names = [image.name for image in sampled("one", 10, 1)[0]]
    assert shards == [names[i::3] for i in range(3)]


def test_records_are_sampled_too_and_labels_counted_anew(sampled, folder, tmp_path):
    sampled("all", 28, 0)
    images, _ = sampled("some", 8, 2, str(tmp_path / "al[l]"))
    assert set(collections.Counter(image.label for image in images).values()) == {2}
    assert sampled("again", 8, 2, str(tmp_path / "all"))[1] == (tmp_path / "some").read_bytes()
    # A data set that counts from 1 has no class 0.
    shutil.rmtree(folder / CLASSES[0])
    sampled("three", 21, 0)
    shifted, _ = sampled("shifted", 3, 2, str(tmp_path / "three"), "--first_label", "1")
    assert {image.label for image in shifted} == {wordnet_ids()[n] - 1 for n in CLASSES[1:]}


@pytest.fixture
def refused(tmp_path, capfd) -> Callable[..., str]:
    def run(images: object, count: int, output: str = "out") -> str:
        capfd.readouterr()
        flags = ("--images", str(images), "--count", str(count), "--output", str(tmp_path / output))
        assert main(flags) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert not (tmp_path / output).exists()
        return line

    return run


def test_wrong_inputs(refused, folder, tmp_path, data):
    assert "class 0 has 7 that can be decoded" in refused(folder, 32)
    assert "--count 31: 8 images of 3 classes are needed; 0 classes" in refused(folder, 31)
    assert "--count 1; expected 2 or more" in refused(folder, 1, "s-00000-of-00002")
    assert "expected the first of some shards" in refused(folder, 4, "s-00001-of-00002")
    assert "no file matches" in refused(tmp_path / "none-*", 4)
    assert "record 0 has no image/class/label" in refused(data / "sample-shard-*", 4)
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refused(folder, 4, "file/out")


def test_classes_of_other_names_are_numbered_in_their_order_and_a_note_says_so(
    sampled, folder, capfd
):
    for number, name in enumerate(CLASSES):
        (folder / name).rename(folder / "dbca"[number])
    images, _ = sampled("one", 4, 0)
    assert {image.label for image in images} == {0, 1, 2, 3}
    assert "classes are numbered in the alphabetical order of their names" in capfd.readouterr().err
