"""The evaluation counts exactly, on labelled images whose right answers are known before."""

import csv
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluate.command import main
from tests.support.labelled_images import Labelled, counts, counts_of, entry_of, pairs_of
from tests.support.labelled_records import write_shard
from tests.support.paths import REPOSITORY
from tests.support.trees import TINY

SHARDS = 5
BAD = 3


@pytest.fixture(scope="module")
def records(labelled: list[Labelled], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The images as TFRecord files, some that can't be decoded among them."""
    root = tmp_path_factory.mktemp("records")
    for shard in range(SHARDS):
        images = pairs_of(labelled[shard::SHARDS])
        if shard < BAD:
            images.insert(20 * shard, (labelled[0].encoded[:-20], 1))
        write_shard(root / f"images-{shard:05}-of-{SHARDS:05}", images)
    return str(root / "images-*")


def test_two_workers_count_exactly_what_was_constructed(models, records, labelled, tmp_path):
    command = [
        *(sys.executable, "-m", "pipelines.evaluate", "--models", models),
        *("--data", records, "--output", str(tmp_path)),
        *("--direct_num_workers", "2", "--direct_running_mode", "multi_processing"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entry = entry_of(tmp_path)
    assert (entry["model"], entry["version"], entry["failures"]) == (TINY, 1, [])
    assert counts_of(entry) == counts(labelled) == (400, 265, 349)
    assert entry["top1"]["percent"] == pytest.approx(66.25)
    assert entry["images_per_second"] > 0
    names = [line.split(":")[0] for line in entry["undecodable"]]
    assert sorted(names) == [f"images-{i:05}-of-{SHARDS:05}-{20 * i}.png" for i in range(BAD)]
    assert all("Invalid PNG data" in line for line in entry["undecodable"])
    # All three forms, and the screen, say the same.
    row = next(csv.DictReader((tmp_path / "evaluation.csv").open()))
    assert (row["images"], row["top1_correct"], row["top5_correct"]) == ("400", "265", "349")
    for text in ((tmp_path / "evaluation.md").read_text(), done.stdout):
        assert "66.250" in text
        assert "87.250" in text
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
    assert (matrix.sum(), matrix.trace()) == (entry["images"], entry["top1"]["correct"])
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


def test_wrong_inputs(refused, models, records, tmp_path, data):
    assert "unknown flag --version; did you mean --versions" in refused(
        models, records, "--version", "1"
    )
    # Another job's flag is not one of this command, wherever that job was loaded.
    assert "unknown flag --publish_to" in refused(models, records, "--publish_to", "x")
    assert "which has canary, stable" in refused(models, records, "--versions", "newest")
    assert "--versions newest: a label, which models.config has: " in refused(
        str(shutil.copytree(pathlib.Path(models, TINY), tmp_path / "alone" / TINY).parent),
        *(records, "--versions", "newest"),
    )
    assert "--batch_size 0; expected 1 or more" in refused(models, records, "--batch_size", "0")
    unknown = refused(models, records, "--variants", "cait_tiny_3")
    assert "no published classifier of cait_tiny_3 among the chosen versions of" in unknown
    assert f" of {TINY}, {TINY}_fe; expected" in unknown
    assert "no published classifier of cait_s24_224" in refused(
        models, records, "--variants", "cait_s24_224"
    )
    assert f"--variants {TINY}_fe: a feature extractor, which has no classes" in refused(
        models, records, "--variants", f"{TINY}_fe"
    )
    root = str(pathlib.Path(models).parent)
    assert f"--models {root}: the root of a published tree; expected its " in refused(root, records)
    assert "no published classifier of any variant" in refused(models, records, "--versions", "7")
    assert "no such directory" in refused(str(tmp_path / "none"), records)
    assert f"{tmp_path}/none-*: no file matches" in refused(models, str(tmp_path / "none-*"))
    assert "record 0 has no image/class/label" in refused(models, str(data / "sample-shard-*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"--data {empty}: no directories in it" in refused(models, str(empty))
    (empty / "n01440764").mkdir()
    assert "no images in its 1 directories" in refused(models, str(empty))
    (empty / "cat").mkdir()
    assert "'cat' is no class of cait_tiny_32 1 (did you mean " in refused(models, str(empty))
    table = tmp_path / "table.md"
    table.write_text("# No table\n")
    assert "no lines <!-- accuracy -->" in refused(models, records, "--table", str(table))


@pytest.mark.parametrize("flag", ["--models", "--data"])
def test_missing_flag(flag, capfd):
    flags = {"--models": "x", "--data": "y"}
    del flags[flag]
    assert main([part for pair in flags.items() for part in pair]) == 2
    assert capfd.readouterr().err == f"error: {flag} is missing; --help says what it takes\n"
