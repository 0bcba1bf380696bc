"""The pages' commands that measure, as they stand there, and the README's table of results."""

import io
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import pipelines.evaluate.command
import pipelines.sample_shard
from export.variants import VARIANTS
from pipelines.data.labels import wordnet_ids
from pipelines.data.shards import read_shard
from pipelines.evaluate.report import accuracy_table
from tests.support.paths import REPOSITORY
from tests.support.readme import README, command_of
from tests.support.trees import copy_as_trained

TINY = "cait_tiny_32"


def table_of(text: str) -> list[str]:
    _, table, _ = re.split(r"<!-- /?accuracy -->\n", text)
    return table.splitlines()


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.fixture
def workplace(
    tiny_variant: object,
    tiny_tree: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> pathlib.Path:
    """A directory with what the commands read, by the names that they have there."""
    generator = np.random.default_rng(11)
    for name in wordnet_ids():
        directory = tmp_path / "imagenet" / "val" / name
        directory.mkdir(parents=True)
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8)).save(file, "PNG")
        (directory / "1.png").write_bytes(file.getvalue())
    published = tmp_path / "build" / "published"
    published.mkdir(parents=True)
    trained = copy_as_trained(tiny_tree, tmp_path / "trained")
    (published / "serving").symlink_to(trained / "serving")
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_fills_in_the_table_and_leaves_the_rest(workplace, capfd):
    path = workplace / "README.md"
    rows = table_of(README)
    # LatencyProfile before, by another run: it stays.
    old = next(line for line in rows if "cait_s24_224" in line)
    name, size, parameters, top1, _, top5, _ = cells_of(old)
    kept = f"| {name} | {size} | {parameters} | {top1} | 83.4 | {top5} | 96.6 |"
    path.write_text(README.replace(old, kept))
    assert pipelines.evaluate.command.main(command_of("pipelines.evaluate")) == 0
    shown = capfd.readouterr().out
    filled = {cells_of(line)[0]: cells_of(line) for line in table_of(path.read_text())[2:]}
    # The tiny variant is a row of its own in this test alone.
    assert list(filled) == [*VARIANTS]
    measured = re.fullmatch(r"(\d+\.\d{3}) \((.+)\)", filled[TINY][4])
    assert measured
    assert measured[1] in shown
    assert measured[2] in shown
    assert filled[TINY][3] == "70.000"
    assert re.search(rf"{TINY} .* 70\.000 .* 90\.000 ", shown)
    assert filled["cait_s24_224"] == cells_of(kept)
    without = re.sub(rf"^\| {TINY} .*\n", "", path.read_text(), flags=re.MULTILINE)
    assert without == README.replace(old, kept)
    assert "evaluation.json" in {path.name for path in workplace.glob("build/published/*/*")}


def test_a_model_without_published_accuracies_is_named(workplace, tiny_tree, capfd):
    """Its weights are random, so its accuracy is not to be compared with the published one."""
    (workplace / "build" / "published" / "serving").unlink()
    (workplace / "build" / "published" / "serving").symlink_to(tiny_tree / "serving")
    assert pipelines.evaluate.command.main(command_of("pipelines.evaluate")) == 0
    note = f"note: --table README.md: without {TINY} 1; no accuracy is published of such weights\n"
    assert note in capfd.readouterr().err
    # The tiny variant is a row of its own in this test alone.
    (row,) = (line for line in table_of((workplace / "README.md").read_text()) if TINY in line)
    assert cells_of(row)[4::2] == ["", ""]


def test_command_takes_a_sample(workplace):
    assert pipelines.sample_shard.main(command_of("pipelines.sample_shard")) == 0
    paths = sorted((workplace / "build").glob("sample-*"))
    assert [path.name for path in paths] == ["sample-00000-of-00002", "sample-00001-of-00002"]
    labels = [image.label for path in paths for image in read_shard(str(path))]
    assert sorted(label for label in labels if label is not None) == list(range(1000))


def test_table_has_every_variants_published_figures():
    rows = table_of(README)
    measured = {cells_of(line)[0]: (cells_of(line)[4], cells_of(line)[6]) for line in rows[2:]}
    assert rows == accuracy_table(measured)
    assert set(measured) == set(VARIANTS)
    top1 = {cells_of(line)[0]: float(cells_of(line)[3]) for line in rows[2:]}
    assert top1["cait_xxs24_224"] == 78.524
    assert top1["cait_m48_448"] == 86.066
