"""Files of labelled images as people have them: the same images and classes from all of them."""

import gzip
import io
import json
import pathlib
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from export.errors import UserError
from pipelines.data.labels import wordnet_ids
from pipelines.data.shards import SampleImage, plan_shards, read_shard
from tests.support.image_files import (
    FORMATS,
    tar_of,
    write_models_records,
    write_parquet,
    write_records,
    write_tar,
)

IDS = list(wordnet_ids())


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


IMAGES = [(png(number), label) for number, label in enumerate((0, 281, 999, 5, 5, 7, 130))]


def read(path: pathlib.Path, first: int | None = None) -> list[SampleImage]:
    return list(read_shard(str(path), first))


def pairs(images: list[SampleImage]) -> list[tuple[bytes, int | None]]:
    return [(image.encoded, image.label) for image in images]


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_give_the_same(name, tmp_path):
    FORMATS[name](tmp_path / name, IMAGES)
    found = read(tmp_path / name)
    assert pairs(found) == IMAGES
    assert [image.number for image in found] == list(range(len(IMAGES)))
    assert len({image.name for image in found}) == len(IMAGES)
    # The content tells the format, not the name.
    (tmp_path / name).rename(tmp_path / "data")
    assert pairs(read(tmp_path / "data")) == IMAGES
    # What a file calls class 0 may be said of every format.
    later = [(encoded, label + 1) for encoded, label in IMAGES]
    FORMATS[name](tmp_path / name, later)
    assert pairs(read(tmp_path / name, 1)) == IMAGES
    with pytest.raises(UserError, match=r"1000; expected 0 to 999; from files .*--first_label 1"):
        read(tmp_path / name)
    # A sample is planned and read alike.
    (shard,) = plan_shards([str(tmp_path / name)], 1)
    assert (shard.images, shard.labelled, shard.first_label) == (len(IMAGES), len(IMAGES), 1)


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_cut_off_are_errors(name, tmp_path):
    FORMATS[name](tmp_path / name, IMAGES)
    content = (tmp_path / name).read_bytes()
    # Within the last record, and within what is behind it.
    for length in (len(content) // 2, len(content) - 8, len(content) - 1):
        if name.endswith(".tar") and length > len(content) // 2:
            continue  # The zeros at the end may be fewer.
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(UserError, match=f"sample shard {tmp_path}/cut: "):
            read(tmp_path / "cut")


def test_wordnet_ids_beside_labels_settle_the_numbering(tmp_path):
    write_models_records(tmp_path / "records", IMAGES, IDS)
    assert pairs(read(tmp_path / "records")) == IMAGES
    assert pairs(read(tmp_path / "records", 1)) == IMAGES
    with pytest.raises(UserError, match=r"image/class/label 1 and the WordNet id n01440764, which"):
        read(tmp_path / "records", 0)
    # Without them nobody knows, and labels are read as they are.
    write_models_records(tmp_path / "records", IMAGES[1:2])
    assert [image.label for image in read(tmp_path / "records")] == [282]
    assert pairs(read(tmp_path / "records", 1)) == IMAGES[1:2]
    wrong: dict[str, bytes | int] = {"image/class/label": 7, "image/class/synset": b"n01440764"}
    write_records(tmp_path / "records", [{"image/encoded": png(1), **wrong}])
    with pytest.raises(UserError, match="which is class 0; expected 0 or 1 there"):
        read(tmp_path / "records")


def test_names_of_a_data_sets_classes_that_are_wordnet_ids(tmp_path):
    # Ten of ImageNet's classes, numbered from 0, as small data sets have them.
    images = [(encoded, number) for number, (encoded, _) in enumerate(IMAGES)]
    names = [IDS[10 * number] for number in range(10)]
    write_parquet(tmp_path / "p", images, names)
    assert [image.label for image in read(tmp_path / "p")] == [10 * n for n in range(len(images))]
    assert read(tmp_path / "p")[0].classes == ()
    # Other names are a model's classes, or refused.
    write_parquet(tmp_path / "p", images, ["tench", *names[1:]])
    assert [image.label for image in read(tmp_path / "p")] == list(range(len(images)))
    assert read(tmp_path / "p")[0].classes == ("tench", *names[1:])


def test_images_of_other_formats_become_pngs(tmp_path):
    file = io.BytesIO()
    Image.open(io.BytesIO(png(3))).save(file, "WEBP", lossless=True)
    write_tar(tmp_path / "tar", [(file.getvalue(), 1), (png(4), 2)])
    one, two = read(tmp_path / "tar")
    assert (one.converted, two.converted) == ("WEBP", "")
    assert np.asarray(Image.open(io.BytesIO(one.encoded))).max() == 3
    (shard,) = plan_shards([str(tmp_path / "tar")])
    assert shard.converted == ("00000.jpg (WEBP)",)
    assert len(shard.attention) == 2


def test_samples_of_a_tar_file(tmp_path):
    def found(*members: tuple[str, bytes]) -> list[SampleImage]:
        (tmp_path / "t").write_bytes(tar_of(members))
        return read(tmp_path / "t")

    image = png(1)
    (one, two) = found(
        *(("./._a.jpg", b"of a Mac"), ("./a.JPEG", image), ("./a.json", b"{}")),
        *(("./a.cls", b"n02123045"), ("./sub/b.png", image), ("./sub/b.seg.png", image)),
    )
    assert (one.label, two.label, two.name) == (281, None, "./sub/b.png")
    assert (two.place, two.label_key) == ("sample ./sub/b", ".cls")
    for members, reason in (
        ((("a.json", b"{}"), ("a.cls", b"1")), r"sample a has no images \(found: \.json, \.cls\)"),
        ((("a.jpg", image), ("a.png", image)), "sample a has 2 images"),
        ((("a.jpg", image), ("a.jpg", image)), "two files of 'a' are named .jpg"),
        ((("a.jpg", image), ("b.jpg", image), ("a.cls", b"1")), "do not stand together"),
        ((("a.jpg", image), ("a.cls", b"cat")), "'cat'; expected the number of a class or its W"),
    ):
        with pytest.raises(UserError, match=reason):
            found(*members)


def test_second_archive_behind_the_end_is_not_left_out(tmp_path):
    write_tar(tmp_path / "t", IMAGES[:2])
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole + whole)
    with pytest.raises(UserError, match="goes on behind its end"):
        read(tmp_path / "t")
    # Cut off where a file ends.
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    (tmp_path / "t").write_bytes(whole[:end])
    with pytest.raises(UserError, match="has no end"):
        read(tmp_path / "t")


def test_gzip_that_ends_behind_a_record_is_not_taken_for_whole(tmp_path):
    # Longer than what is looked at to tell the format.
    noise = np.random.default_rng(1).bytes(1 << 20)
    write_records(tmp_path / "r", [{"image/encoded": noise}])
    whole = gzip.compress((tmp_path / "r").read_bytes())
    (tmp_path / "r").write_bytes(whole[:-8])
    with pytest.raises(UserError, match="cut off or damaged"):
        read(tmp_path / "r")
    # Two streams in a file are one.
    (tmp_path / "r").write_bytes(whole + whole)
    assert len(read(tmp_path / "r")) == 2


def test_columns_that_are_no_images_are_named(tmp_path):
    for table, reason in (
        ({"pixels": [[1]], "y": [1]}, r"found: pixels \(list<.*>\), y \(int64\)"),
        ({"image": ["a.jpg"], "label": [1]}, r"found: image \(string\)"),
        (
            {
                "image": pa.array(
                    [{"bytes": None, "path": "a.jpg"}],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                )
            },
            r"row 0 has a path alone \(a\.jpg\) in image",
        ),
        ({"image": [b"x"], "label": [0.5]}, "row 0 has label of type float"),
        ({"image": [b"x"], "label": [-1]}, "row 0 has label -1; expected 0 to 999"),
    ):
        pq.write_table(pa.table(table), tmp_path / "p")
        with pytest.raises(UserError, match=reason):
            read(tmp_path / "p")
    pq.write_table(pa.table({"img": [b"x", b"y"], "labels": ["n01440764", "7"]}), tmp_path / "p")
    assert [image.label for image in read(tmp_path / "p")] == [0, 7]


def test_features_that_are_no_images_are_named(tmp_path):
    write_records(tmp_path / "r", [{"jpeg": png(1), "y": 3}])
    with pytest.raises(UserError, match=r"found: jpeg \(bytes\), y \(int64\)"):
        read(tmp_path / "r")


@pytest.mark.parametrize("size", [0x0480, 0xD8FF, 0x4B50])
def test_a_record_s_length_may_be_another_format_s_first_bytes(tmp_path, size):
    path = tmp_path / "r"
    write_records(path, [{"image/encoded": png(1)}])
    more = size - int.from_bytes(path.read_bytes()[:8], "little")
    # The lengths within the record take more bytes, too.
    for padding in range(more, more - 12, -1):
        write_records(path, [{"image/encoded": png(1) + bytes(padding)}])
        if path.read_bytes()[:8] == size.to_bytes(8, "little"):
            break
    assert path.read_bytes()[:8] == size.to_bytes(8, "little")
    assert len(list(read(tmp_path / "r"))) == 1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pickle.dumps([1]), "a pickle"),
        (pickle.dumps(list(range(999))), "a pickle"),
        (b"PK\x03\x04...", "a zip file"),
        (png(1), "a PNG"),
        (gzip.compress(b"{}" * 9, mtime=0), r"begins with b'\{\}\{\}.*compressed with gzip"),
        (json.dumps({"splits": []}).encode(), 'begins with b\'."splits"'),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
    ],
    ids=["pickle", "long pickle", "zip", "png", "gzip", "json", "zstd"],
)
def test_other_formats_are_named(tmp_path, content, found):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UserError, match=f"{found}.*expected TFRecord files"):
        read(tmp_path / "f")
