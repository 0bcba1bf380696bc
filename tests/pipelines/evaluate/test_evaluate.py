"""The evaluation, on labelled images whose right answers are known by construction."""

import csv
import dataclasses
import io
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.checkpoints.random_weights import random_tensor
from export.reference.forward_pass import forward
from export.reference.preprocessing import load_pixels, normalize
from export.variants import CaiTConfig
from export.weights import expected_shapes
from pipelines.data.labels import wordnet_ids
from pipelines.evaluate.command import main
from tests.support.arrays import Tensors
from tests.support.image_files import FORMATS, write_models_records
from tests.support.labelled_records import write_shard
from tests.support.paths import REPOSITORY
from tests.support.trees import convert_version

pytestmark = pytest.mark.slow

TINY = "cait_tiny_32"
IMAGES, TOP1, TOP5 = 2000, 1327, 1746
SHARDS = 5
BAD = 3


@dataclasses.dataclass(frozen=True)
class Labelled:
    """An image, the class given to it, and that class's place in the reference's answer."""

    encoded: bytes
    label: int
    rank: int


@pytest.fixture(scope="session")
def labelled() -> list[Labelled]:
    """2,000 images. Of each the reference's ranking is clear where it decides, and the class that
    it is labelled with is the one in a place of that ranking that was chosen before.
    """
    config = CaiTConfig(32, 16, 32, 2, 2, num_classes=1000)
    tensors = {
        key: random_tensor(TINY, key, shape) for key, shape in expected_shapes(config).items()
    }
    generator = np.random.default_rng(7)
    # The places right before and after the limits are the ones that a wrong count would show on.
    ranks = [0] * TOP1 + [1 + i % 4 for i in range(TOP5 - TOP1)]
    ranks += [(5, 6, 999)[i % 3] for i in range(IMAGES - TOP5)]
    generator.shuffle(ranks)
    chosen: list[Labelled] = []
    while len(chosen) < IMAGES:
        encoded = [_png(generator) for _ in range(500)]
        pixels = np.stack([load_pixels(image, config.image_size) for image in encoded])
        logits = forward(tensors, normalize(pixels)).logits
        assert logits is not None
        for image, row in zip(encoded, logits, strict=True):
            order = np.argsort(-row, kind="stable")
            best = row[order]
            clear = min(best[0] - best[1], best[4] - best[5], best[-2] - best[-1]) > 1e-3
            if clear and len(chosen) < IMAGES:
                rank = ranks[len(chosen)]
                chosen.append(Labelled(image, int(order[rank]), rank))
    return chosen


def _png(generator: np.random.Generator) -> bytes:
    # Smooth and noisy by turns, so that the reference does not answer the same for all.
    coarse = generator.integers(0, 256, (3, 3, 3), np.uint8)
    image = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def records(labelled: list[Labelled], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The images as TFRecord files, some that can't be decoded among them."""
    root = tmp_path_factory.mktemp("records")
    for shard in range(SHARDS):
        images = [(image.encoded, image.label) for image in labelled[shard::SHARDS]]
        if shard < BAD:
            images.insert(100 * shard, (labelled[0].encoded[:-20], 1))
        write_shard(root / f"images-{shard:05}-of-{SHARDS:05}", images)
    return str(root / "images-*")


@pytest.fixture
def models(tiny_tree: pathlib.Path) -> str:
    return str(tiny_tree / "serving")


@pytest.fixture
def evaluate(
    tiny_variant: object, models: str, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command within this process: its status, stdout and stderr."""

    def run(data: str, *flags: str, models: str = models) -> tuple[int, str, str]:
        capfd.readouterr()
        output = str(tmp_path / "out")
        status = main(["--models", models, "--data", data, "--output", output, *flags])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def entry_of(output: pathlib.Path) -> dict:  # type: ignore[type-arg]
    (entry,) = json.loads((output / "evaluation.json").read_text())["models"]
    return entry


def command(models: str, data: str, output: pathlib.Path, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pipelines.evaluate", "--models", models),
        *("--data", data, "--output", str(output), *flags),
    ]


def test_two_workers_count_exactly_what_was_constructed(models, records, tmp_path):
    flags = ("--direct_num_workers", "2", "--direct_running_mode", "multi_processing")
    done = subprocess.run(
        command(models, records, tmp_path, *flags),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    entry = entry_of(tmp_path)
    assert (entry["model"], entry["version"], entry["failures"]) == (TINY, 1, [])
    assert (entry["images"], entry["top1"]["correct"], entry["top5"]["correct"]) == (
        IMAGES,
        TOP1,
        TOP5,
    )
    assert entry["top1"]["percent"] == pytest.approx(66.35)
    assert entry["images_per_second"] > 0
    names = [line.split(":")[0] for line in entry["undecodable"]]
    assert sorted(names) == [f"images-{i:05}-of-{SHARDS:05}-{100 * i}.png" for i in range(BAD)]
    assert all("Invalid PNG data" in line for line in entry["undecodable"])
    # All three forms, and the screen, say the same.
    row = next(csv.DictReader((tmp_path / "evaluation.csv").open()))
    assert (row["images"], row["top1_correct"], row["top5_correct"]) == (
        str(IMAGES),
        str(TOP1),
        str(TOP5),
    )
    for text in ((tmp_path / "evaluation.md").read_text(), done.stdout):
        assert "66.350" in text
        assert "87.300" in text
    assert_counts_every_pair(tmp_path, entry)
    # Nothing of the run stays but the results.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{TINY}-1",
        "evaluation.csv",
        "evaluation.json",
        "evaluation.md",
        "shards",
    ]


def assert_counts_every_pair(output: pathlib.Path, entry: dict[str, Any]) -> None:
    """Holds the files about classes to the counts, and those of a shard to being small."""
    header, *rows = csv.reader((output / f"{TINY}-1" / "confusion.csv").open())
    matrix = np.array([row[1:] for row in rows], int)
    assert matrix.shape == (1000, 1000)
    assert (header[1], rows[0][0]) == ("tench, Tinca tinca", "tench, Tinca tinca")
    assert (matrix.sum(), matrix.trace()) == (IMAGES, TOP1)
    classes = list(csv.DictReader((output / f"{TINY}-1" / "classes.csv").open()))
    for line in (classes[0], classes[-1]):
        number = int(line["class"])
        assert int(line["images"]) == matrix[number].sum()
        assert int(line["correct"]) == matrix[number, number]
    assert len(entry["classes"]) == len(classes) == (matrix.sum(1) > 0).sum()
    np.fill_diagonal(matrix, 0)
    assert entry["confused"][0]["images"] == matrix.max()
    Image.open(output / f"{TINY}-1" / "confusion.png").verify()
    # A count for each pair that there is: a matrix would be a million.
    assert all(path.stat().st_size < 100_000 for path in output.glob("shards/*/*.json"))


def test_run_that_is_killed_goes_on_with_the_shards_that_it_lacks(models, records, tmp_path):
    def kept() -> dict[pathlib.Path, int]:
        return {path: path.stat().st_ino for path in tmp_path.glob("shards/*/*.json")}

    first = subprocess.Popen(
        command(models, records, tmp_path), cwd=REPOSITORY, stderr=subprocess.DEVNULL
    )
    try:
        while not kept():
            assert first.poll() is None
            time.sleep(0.02)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    done = kept()
    second = subprocess.run(
        command(models, records, tmp_path),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 0, second.stderr
    left = SHARDS - len(done)
    steps = [line for line in second.stderr.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in steps] == [f"[{n + 1}/{left}]" for n in range(left)]
    assert done.items() <= kept().items()
    entry = entry_of(tmp_path)
    assert (entry["images"], entry["top1"]["correct"], entry["top5"]["correct"]) == (
        IMAGES,
        TOP1,
        TOP5,
    )


def write_folder(root: pathlib.Path, images: Sequence[Labelled], name: Callable[[int], str]) -> str:
    for number, image in enumerate(images):
        directory = root / name(image.label)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.PNG").write_bytes(image.encoded)
    return str(root)


def counts(images: Sequence[Labelled]) -> tuple[int, int, int]:
    return (
        len(images),
        sum(image.rank == 0 for image in images),
        sum(image.rank < 5 for image in images),
    )


@pytest.mark.parametrize("by", ["number", "WordNet id"])
def test_image_folder(evaluate, labelled, tmp_path, by):
    ids = {number: name for name, number in wordnet_ids().items()}
    name = (lambda label: f"{label:03}") if by == "number" else ids.__getitem__
    images = labelled[:60]
    data = write_folder(tmp_path / "folder", images, name)
    (tmp_path / "folder" / "README.txt").write_text("no class")
    (tmp_path / "folder" / name(images[0].label) / "notes.txt").write_text("no image")
    status, _, stderr = evaluate(data)
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["images"], entry["top1"]["correct"], entry["top5"]["correct"]) == counts(images)
    assert entry["undecodable"] == []
    (notes,) = entry["left_out"]
    assert notes.endswith("/notes.txt: a file that begins with b'no image'; expected a JPEG or PNG")
    assert entry["files"] == 61
    assert f"note: 1 of 61 files left out: {notes}" in stderr


def write_mixed(root: pathlib.Path, image: Labelled) -> pathlib.Path:
    """An image in several formats without losses, a WebP by a wrong name, and other files."""
    directory = root / str(image.label)
    directory.mkdir(parents=True)
    pixels = Image.open(io.BytesIO(image.encoded))
    for name, kind in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tif", "TIFF"), ("d.JPG", "WEBP")):
        pixels.save(directory / name, kind, **({"lossless": True} if kind == "WEBP" else {}))
    (directory / "e.webp").write_bytes((directory / "d.JPG").read_bytes()[:-30])
    (directory / "Thumbs.db").write_bytes(b"x")
    (directory / "._a.png").write_bytes(b"\0\5\x16\7")
    (directory / ".cache").mkdir()
    (directory / ".cache" / "a.png").write_bytes(image.encoded)
    (root / ".git").mkdir()
    (root / ".git" / "a.png").write_bytes(image.encoded)
    (root / "b.png").write_bytes(image.encoded)
    return root


def test_files_of_other_formats_are_measured_and_nothing_is_left_out_in_silence(
    evaluate, labelled, tmp_path
):
    image = next(image for image in labelled if not image.rank)
    data = str(write_mixed(tmp_path / "folder", image))
    place = str(image.label)
    status, stdout, stderr = evaluate(data)
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    # The same pixels have the same answer.
    assert (entry["images"], entry["top1"]["correct"], entry["files"]) == (4, 4, 9)
    assert "4 of 9" in stdout
    assert entry["converted"] == [
        *(f"{place}/b.bmp: BMP", f"{place}/c.tif: TIFF", f"{place}/d.JPG: WEBP"),
    ]
    assert [line.split(":")[0] for line in entry["undecodable"]] == [f"{place}/e.webp"]
    left_out = [f"{place}/._a.png", f"{place}/.cache/a.png", "b.png", f"{place}/Thumbs.db"]
    assert [line.split(":")[0] for line in entry["left_out"]] == left_out
    report = (tmp_path / "out" / "evaluation.md").read_text()
    for line in (*entry["converted"], *entry["undecodable"], *entry["left_out"]):
        assert line in stderr
        assert line in report
    status, stdout, stderr = evaluate(data, "--only_jpeg_png")
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["images"], entry["files"], entry["converted"]) == (1, 9, [])
    assert "1 of 9" in stdout
    assert f"{place}/b.bmp: a BMP; expected a JPEG or PNG" in entry["left_out"]
    assert len(entry["left_out"]) == 8
    assert "8 of 9 files left out: " in stderr


def test_all_formats_have_the_same_accuracy(evaluate, labelled, tmp_path):
    images = [(image.encoded, image.label) for image in labelled[:20]]
    expected = counts(labelled[:20])
    for name, write in FORMATS.items():
        write(tmp_path / name, images)
        status, _, stderr = evaluate(str(tmp_path / name))
        assert status == 0, stderr
        entry = entry_of(tmp_path / "out")
        found = (entry["images"], entry["top1"]["correct"], entry["top5"]["correct"])
        assert found == expected, name
    ids = list(wordnet_ids())
    write_models_records(tmp_path / "models", images, ids)
    assert evaluate(str(tmp_path / "models"))[0] == 0
    assert entry_of(tmp_path / "out")["top1"]["correct"] == expected[1]


# Alphabetical order would be another one.
ZOO = ("zebra", "yak", "wolf", "vole", "tapir", "swan", "rhea", "quail", "puma", "owl")


@pytest.fixture
def zoo(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> tuple[str, list[Labelled]]:
    """A tree with a model of somebody's own, and images with the classes that it answers."""
    convert_version(tmp_path / "zoo" / "serving" / "my-zoo" / "1", tiny_config, tiny_tensors, ZOO)
    generator = np.random.default_rng(3)
    encoded = [_png(generator) for _ in range(40)]
    pixels = np.stack([load_pixels(image, tiny_config.image_size) for image in encoded])
    logits = np.asarray(forward(tiny_tensors, normalize(pixels)).logits)
    images = [
        Labelled(image, int(row.argmax()), 0) for image, row in zip(encoded, logits, strict=True)
    ]
    return str(tmp_path / "zoo" / "serving"), images


def test_directories_are_the_published_classes_by_their_names(evaluate, refused, zoo, tmp_path):
    models, images = zoo
    seen = {image.label for image in images}
    assert len(seen) > 2
    wrong = dataclasses.replace(images[0], label=(images[0].label + 1) % 10)
    data = write_folder(tmp_path / "named", [*images, wrong], lambda label: ZOO[label])
    strange = write_folder(tmp_path / "strange", images, lambda label: f"animal-{label}")
    line = refused(strange, models=models)
    assert f"--data {strange}: 'animal-" in line
    assert "is no class of my-zoo 1; expected for all of them names of its 10 classes" in line
    assert "'n01440764' is no class of my-zoo 1" in refused(
        write_folder(tmp_path / "ids", images[:1], lambda _: "n01440764"), models=models
    )
    status, _, stderr = evaluate(data, "--variants", "my-zoo", models=models)
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["model"], entry["variant"]) == ("my-zoo", TINY)
    assert (entry["images"], entry["top1"]["correct"]) == (41, 40)
    # The paper's figures are of another model.
    assert (entry["top1"]["published"], entry["top5"]["published"]) == (None, None)
    pair = {"right": ZOO[wrong.label], "answer": ZOO[images[0].label], "images": 1}
    assert entry["confused"] == [pair]
    assert {line["name"]: line["images"] - line["correct"] for line in entry["classes"]} == {
        ZOO[label]: int(label == wrong.label) for label in seen | {wrong.label}
    }
    report = (tmp_path / "out" / "evaluation.md").read_text()
    assert f"| {pair['right']} | {pair['answer']} | 1 |" in report
    assert "not trained" not in report + stderr
    numbered = write_folder(tmp_path / "numbered", images, str)
    assert evaluate(numbered, models=models)[0] == 0
    assert entry_of(tmp_path / "out")["top1"]["correct"] == 40


def test_published_figures_stand_beside_the_measured_ones(evaluate, labelled, tmp_path):
    write_shard(tmp_path / "records", [(image.encoded, image.label) for image in labelled[:40]])
    status, stdout, stderr = evaluate(str(tmp_path / "records"))
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    assert (entry["top1"]["published"], entry["top5"]["published"]) == (70.0, 90.0)
    assert f"note: {TINY} 1: its weights are random and not trained" in stderr
    assert "- **not trained**: its weights" in (tmp_path / "out" / "evaluation.md").read_text()
    header, row = stdout.splitlines()
    cells = dict(zip(*(re.split(r"\s{2,}", line) for line in (header, row)), strict=True))
    assert (cells["model"], cells["version"], cells["published"]) == (TINY, "1", "90.000")
    assert "70.000" in row


def test_labels_counted_from_one(evaluate, labelled, tmp_path):
    images = labelled[:40]
    pairs = [(image.encoded, image.label) for image in images]
    write_shard(tmp_path / "records", [*pairs, (images[0].encoded, 999)], first_label=1)
    status, _, stderr = evaluate(str(tmp_path / "records"), "--first_label", "1")
    assert status == 0, stderr
    entry = entry_of(tmp_path / "out")
    # The one more is labelled with a class that is not its best.
    assert (entry["images"], entry["top1"]["correct"]) == (41, counts(images)[1])
    status, _, stderr = evaluate(str(tmp_path / "records"))
    assert status == 1
    assert "record 40 has image/class/label 1000; expected 0 to 999" in stderr


def test_shard_that_changed_or_whose_figures_are_damaged_is_done_again(
    evaluate, labelled, tmp_path
):
    pairs = [(image.encoded, image.label) for image in labelled[:30]]
    write_shard(tmp_path / "records", pairs[:20])
    assert evaluate(str(tmp_path / "records"))[0] == 0
    assert "evaluate " not in evaluate(str(tmp_path / "records"))[2]
    (kept,) = (tmp_path / "out").glob("shards/*/*.json")
    kept.write_text(kept.read_text()[:-40])
    assert "[1/1] evaluate " in evaluate(str(tmp_path / "records"))[2]
    assert json.loads(kept.read_text())["score"]["images"] == 20
    write_shard(tmp_path / "records", pairs)
    assert "[1/1] evaluate " in evaluate(str(tmp_path / "records"))[2]
    assert entry_of(tmp_path / "out")["images"] == 30


def test_model_that_fails_is_named_and_the_other_is_evaluated(
    evaluate, labelled, tmp_path, tiny_tree
):
    base = tmp_path / "serving" / TINY
    base.mkdir(parents=True)
    (base / "1").symlink_to(tiny_tree / "serving" / TINY / "1")
    broken = base / "2"
    for source in (tiny_tree / "serving" / TINY / "1").rglob("*"):
        target = broken / source.relative_to(tiny_tree / "serving" / TINY / "1")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            target.write_bytes(source.read_bytes())
    (broken / "variables" / "variables.index").write_bytes(b"")
    write_shard(tmp_path / "records", [(image.encoded, image.label) for image in labelled[:10]])
    data = str(tmp_path / "records")
    root = str(tmp_path / "serving")
    status, _, stderr = evaluate(data, "--versions", "all", models=root)
    assert status == 1
    assert f"failed: {TINY} 2: records: " in stderr
    one, two = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert (one["images"], one["failures"]) == (10, [])
    assert (two["images"], two["top1"]["percent"]) == (0, None)
    # What failed is tried again; by a filter only what is asked for is.
    assert "[1/1] evaluate" in evaluate(data, "--versions", "all", models=root)[2]
    assert evaluate(data, "--versions", "1", "--variants", TINY, models=root)[0] == 0


@pytest.fixture
def refused(evaluate, tmp_path) -> Callable[..., str]:
    def run(data: str, *flags: str, **places: str) -> str:
        status, stdout, stderr = evaluate(data, *flags, **places)
        assert (status, stdout) == (2, "")
        (line,) = stderr.splitlines()
        assert line.startswith("error: ")
        assert not (tmp_path / "out").exists()
        return line

    return run


def test_wrong_inputs(refused, labelled, records, tmp_path, data):
    assert "unknown flag --version; did you mean --versions" in refused(records, "--version", "1")
    # Another job's flag is not one of this command, wherever that job was loaded.
    assert "unknown flag --publish_to" in refused(records, "--publish_to", "x")
    assert "--versions: 'newest'; expected" in refused(records, "--versions", "newest")
    assert "--batch_size 0; expected 1 or more" in refused(records, "--batch_size", "0")
    unknown = refused(records, "--variants", "cait_tiny_3")
    assert "no published classifier of cait_tiny_3 among the chosen versions of" in unknown
    assert f" of {TINY}, {TINY}_fe; expected" in unknown
    assert "no published classifier of cait_s24_224" in refused(
        records, "--variants", "cait_s24_224"
    )
    assert "no published classifier of any variant" in refused(records, "--versions", "7")
    assert "no such directory" in refused(records, models=str(tmp_path / "none"))
    assert f"{tmp_path}/none-*: no file matches" in refused(str(tmp_path / "none-*"))
    assert "record 0 has no image/class/label" in refused(str(data / "sample-shard-*"))
    (tmp_path / "empty").mkdir()
    assert f"--data {tmp_path}/empty: no directories in it" in refused(str(tmp_path / "empty"))
    (tmp_path / "empty" / "n01440764").mkdir()
    assert "no images in its 1 directories" in refused(str(tmp_path / "empty"))
    (tmp_path / "empty" / "cat").mkdir()
    assert "'cat' is no class of cait_tiny_32 1 (did you mean " in refused(str(tmp_path / "empty"))
    (tmp_path / "table.md").write_text("# No table\n")
    assert "no lines <!-- accuracy -->" in refused(records, "--table", str(tmp_path / "table.md"))


@pytest.mark.parametrize("flag", ["--models", "--data"])
def test_missing_flag(flag, capfd):
    flags = {"--models": "x", "--data": "y"}
    del flags[flag]
    assert main([part for pair in flags.items() for part in pair]) == 2
    assert capfd.readouterr().err == f"error: {flag} is missing; --help says what it takes\n"
