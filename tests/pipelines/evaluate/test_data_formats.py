"""The evaluation of data as people have it: in files of many images, and in directories."""

import dataclasses
import io
import json
import pathlib
import re
from typing import Any

import pytest
from PIL import Image

from export.errors import UserError
from pipelines.data.labels import wordnet_ids
from pipelines.data.shards import read_shard
from tests.support.image_files import FORMATS, write_models_records
from tests.support.labelled_images import (
    ZOO,
    Labelled,
    counts,
    counts_of,
    entry_of,
    pairs_of,
    write_folder,
)
from tests.support.labelled_records import write_shard
from tests.support.trees import TINY

pytestmark = pytest.mark.slow


def test_all_formats_have_the_same_accuracy(evaluate, models, labelled, tmp_path):
    images = labelled[:20]
    ids = list(wordnet_ids())
    data = tmp_path / "data"
    data.mkdir()
    for name, write in FORMATS.items():
        write(data / name, pairs_of(images))
    write_models_records(data / "models", pairs_of(images), ids)
    names = {"numbers": lambda label: f"{label:03}", "ids": ids.__getitem__}
    folders = [write_folder(tmp_path / name, images, of) for name, of in names.items()]
    (tmp_path / "ids" / "README.txt").write_text("no class")
    (tmp_path / "ids" / ids[images[0].label] / "notes.txt").write_text("no image")
    status, stdout, stderr = evaluate(models, f"{data}/*", *folders)
    assert status == 0, stderr
    kept = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("shards/*/*.json")]
    found = {
        shard["shard_name"].partition("[")[0]: tuple(
            shard["score"][key] for key in ("images", "top1", "top5")
        )
        for shard in kept
    }
    assert found == dict.fromkeys((*FORMATS, "models", *names), counts(images))
    entry = entry_of(tmp_path / "out")
    assert counts_of(entry) == tuple(len(found) * count for count in counts(images))
    assert entry["undecodable"] == []
    (notes,) = entry["left_out"]
    assert notes.endswith("/notes.txt: a file that begins with b'no image'; expected a JPEG or PNG")
    assert entry["files"] == 20 * len(found) + 1
    assert f"note: 1 of {entry['files']} files left out: {notes}" in stderr
    assert_says_untrained(entry, stdout, stderr, tmp_path / "out")


def assert_says_untrained(
    entry: dict[str, Any], stdout: str, stderr: str, output: pathlib.Path
) -> None:
    """Holds what is written and shown to no accuracy of the paper beside random weights."""
    assert (entry["top1"]["published"], entry["top5"]["published"]) == (None, None)
    assert f"note: {TINY} 1: its weights are random and not trained" in stderr
    assert "- weights: **not trained**: its weights" in (output / "evaluation.md").read_text()
    header, row = stdout.splitlines()
    cells = dict(zip(*(re.split(r"\s{2,}", line) for line in (header, row)), strict=True))
    assert (cells["model"], cells["version"], cells["published"]) == (TINY, "1", "-")


def write_mixed(root: pathlib.Path, encoded: bytes, place: str) -> str:
    """An image in several formats without losses, a WebP by a wrong name, and other files."""
    directory = root / place
    directory.mkdir(parents=True)
    pixels = Image.open(io.BytesIO(encoded))
    for name, kind in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tif", "TIFF"), ("d.JPG", "WEBP")):
        pixels.save(directory / name, kind, **({"lossless": True} if kind == "WEBP" else {}))
    (directory / "e.webp").write_bytes((directory / "d.JPG").read_bytes()[:-30])
    (directory / "Thumbs.db").write_bytes(b"x")
    (directory / "._a.png").write_bytes(b"\0\5\x16\7")
    (directory / ".cache").mkdir()
    (directory / ".cache" / "a.png").write_bytes(encoded)
    (root / ".git").mkdir()
    (root / ".git" / "a.png").write_bytes(encoded)
    (root / "b.png").write_bytes(encoded)
    return str(root)


def test_files_of_other_formats_are_measured_and_nothing_is_left_out_in_silence(
    evaluate, zoo, animals, tmp_path
):
    place = ZOO[animals[0].label]
    data = write_mixed(tmp_path / "folder", animals[0].encoded, place)
    status, stdout, stderr = evaluate(zoo, data)
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    # The same pixels have the same answer.
    assert (entry["images"], entry["top1"]["correct"], entry["files"]) == (4, 4, 9)
    assert "4 of 9" in stdout
    assert entry["converted"] == [
        *(f"{place}/b.bmp: BMP", f"{place}/c.tif: TIFF", f"{place}/d.JPG: WEBP"),
    ]
    assert [line.split(":")[0] for line in entry["undecodable"]] == [f"{place}/e.webp"]
    # What is no file of a class is known before any is read.
    left_out = ["b.png", f"{place}/._a.png", f"{place}/.cache/a.png", f"{place}/Thumbs.db"]
    assert [line.split(":")[0] for line in entry["left_out"]] == left_out
    report = (tmp_path / "out" / "evaluation.md").read_text()
    for line in (*entry["converted"], *entry["undecodable"], *entry["left_out"]):
        assert line in stderr
        assert line in report
    status, stdout, stderr = evaluate(zoo, data, "--only_jpeg_png")
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["images"], entry["files"], entry["converted"]) == (1, 9, [])
    assert "1 of 9" in stdout
    assert f"{place}/b.bmp: a BMP; expected a JPEG or PNG" in entry["left_out"]
    assert len(entry["left_out"]) == 8
    assert "8 of 9 files left out: " in stderr


def test_directories_are_the_published_classes_by_their_names(
    evaluate, refused, zoo, animals, tmp_path
):
    seen = {image.label for image in animals}
    assert len(seen) > 2
    wrong = dataclasses.replace(animals[0], label=(animals[0].label + 1) % 10)
    data = write_folder(tmp_path / "named", [*animals, wrong], ZOO.__getitem__)
    strange = write_folder(tmp_path / "strange", animals, lambda label: f"animal-{label}")
    line = refused(zoo, strange)
    assert f"--data {strange}: 'animal-" in line
    expected = "expected, of one kind for all of them, names of its 10 classes"
    assert f"is no class of my-zoo 1; {expected}" in line
    assert "'n01440764' is no class of my-zoo 1" in refused(
        zoo, write_folder(tmp_path / "ids", animals[:1], lambda _: "n01440764")
    )
    status, _, stderr = evaluate(zoo, data, "--variants", "my-zoo")
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["model"], entry["variant"]) == ("my-zoo", TINY)
    assert (entry["images"], entry["top1"]["correct"]) == (41, 40)
    # The paper's figures are of another model.
    assert (entry["top1"]["published"], entry["top5"]["published"]) == (None, None)
    pair = {"right": ZOO[wrong.label], "answer": ZOO[animals[0].label], "images": 1}
    assert entry["confused"] == [pair]
    assert {line["name"]: line["images"] - line["correct"] for line in entry["classes"]} == {
        ZOO[label]: int(label == wrong.label) for label in seen | {wrong.label}
    }
    report = (tmp_path / "out" / "evaluation.md").read_text()
    assert f"| {pair['right']} | {pair['answer']} | 1 |" in report
    assert "not trained" not in report + stderr


def test_labels_counted_from_one(evaluate, models, labelled: list[Labelled], tmp_path):
    images = labelled[:40]
    data = tmp_path / "data"
    data.mkdir()
    # The one more is labelled with a class that is not its best.
    pairs = [*pairs_of(images), (images[0].encoded, 999)]
    write_shard(data / "from-one", pairs, first_label=1)
    write_shard(data / "from-zero", [(images[0].encoded, label) for label in (1, 0)])
    status, _, stderr = evaluate(models, f"{data}/*", "--first_label", "1")
    assert status == 1
    entry = entry_of(tmp_path / "out")
    assert (entry["images"], entry["top1"]["correct"]) == (41, counts(images)[1])
    (failure,) = entry["failures"]
    assert failure.startswith("from-zero: ")
    assert "record 1 has image/class/label 0; expected 1 to 1000" in failure
    assert f"failed: {TINY} 1: {failure}" in stderr
    with pytest.raises(UserError, match="record 40 has image/class/label 1000; expected 0 to 999"):
        list(read_shard(str(data / "from-one")))
