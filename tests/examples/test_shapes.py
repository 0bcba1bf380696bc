"""The model of shapes: trained here, published as one's own, and shown by `make demo`."""

import csv
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from examples.draw_shapes import CLASSES, TEST_SEED, drawn_set, write_shard
from export.checkpoints.sources import checkpoint_source, open_checkpoint
from pipelines.evaluate.command import main as evaluate
from serving_configs.tree.manifest import load_manifest
from tests.support.demo import demo_process
from tests.support.paths import REPOSITORY
from tests.support.readme import PAGES

SHAPES = REPOSITORY / "examples" / "shapes"
TRAINING = json.loads((SHAPES / "training.json").read_text())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[pathlib.Path, str]]:
    """What `make demo` published, and the address of its page. The one run of these tests."""
    folder = tmp_path_factory.mktemp("demo")
    with demo_process(folder) as (url, written):
        assert any(line.startswith("shapes ") for line in written), written
        yield folder, url


def answer(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as reply:
        return json.load(reply)


def when_loaded(url: str) -> list[dict[str, Any]]:
    """The page's models, as soon as one is available."""
    end = time.monotonic() + 120
    while True:
        try:
            models: list[dict[str, Any]] = answer(f"{url}/models")["models"]
            if models[0]["versions"][0]["state"] == "AVAILABLE":
                return models
        except urllib.error.HTTPError as error:
            if error.code != 503:  # It is loading.
                raise
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_weights_are_small_and_say_what_they_are(tmp_path: pathlib.Path) -> None:
    assert (SHAPES / "model.safetensors").stat().st_size < 1_000_000
    assert (SHAPES / "labels.txt").read_text().split() == [*CLASSES]
    source = checkpoint_source(str(SHAPES))
    variant = source.architecture()
    assert variant is not None
    assert variant.name == "cait_4x64_96"
    checkpoint = open_checkpoint(source, variant, tmp_path)
    assert (checkpoint.num_classes, checkpoint.image_size) == (len(CLASSES), 96)
    # The page shows this file.
    assert f"```text\n{(SHAPES / 'config.json').read_text()}```" in PAGES["docs/publish.md"]


@pytest.mark.slow
def test_the_demo_shows_a_star(demo: tuple[pathlib.Path, str]) -> None:
    folder, url = demo
    (model,) = when_loaded(url)
    assert (model["name"], model["versions"][0]["labels"]) == ("shapes", ["canary", "stable"])
    sample = answer(f"{url}/sample")
    assert sample["name"] == "star.jpg"
    result = answer(f"{url}/explain?model=shapes&version=1", (folder / "star.jpg").read_bytes())
    assert result["best"][0]["label"] == "star"
    assert result["best"][0]["probability"] > 0.5
    assert result["warning"] is None
    manifest = load_manifest(folder / "published" / "serving" / "shapes" / "1")
    assert (manifest.variant, manifest.labels) == ("cait_4x64_96", CLASSES)
    assert manifest.has_own_name
    assert manifest.published is None


@pytest.mark.slow
def test_the_published_model_is_as_accurate_as_the_trained_one(
    demo: tuple[pathlib.Path, str], tmp_path: pathlib.Path
) -> None:
    folder, _ = demo
    data = tmp_path / "shapes.tar"
    write_shard(data, TRAINING["test_images"], TRAINING["test_seed"])
    models = folder / "published" / "serving"
    output = tmp_path / "evaluation"
    assert evaluate(["--models", str(models), "--data", str(data), "--output", str(output)]) == 0
    with (output / "evaluation.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert int(row["images"]) == TRAINING["test_images"]
    assert int(row["top1_correct"]) == TRAINING["right"]
    assert TRAINING["right"] > 0.85 * TRAINING["test_images"]


@pytest.mark.slow
def test_its_attention_lies_on_the_shapes(demo: tuple[pathlib.Path, str]) -> None:
    import tensorflow as tf

    folder, _ = demo
    model = tf.saved_model.load(str(folder / "published" / "serving" / "shapes" / "1"))
    shapes = list(drawn_set(90, TEST_SEED))
    run = model.signatures["bytes_class_attention"]
    reply = run(image_bytes=tf.constant([shape.encoded() for shape in shapes]))
    on_shape, of_area = [], []
    for number, shape in enumerate(shapes):
        share = share_of_patches(shape.box, shape.image.size)
        of_area.append(share.sum() / share.size)
        for block in (0, 1):
            attention = reply[f"ca_ffn_block_{block}_att"][number, :, 0, 1:].numpy()
            maps = attention.reshape(-1, *share.shape)
            on_shape.append((maps * share).sum(axis=(1, 2)) / maps.sum(axis=(1, 2)))
    # Of what the class token looks at, most is in the box of the shape, for every head of a block
    # and far more than the box has of the image.
    assert np.mean(of_area) < 0.4
    assert np.mean(on_shape) > 2 * np.mean(of_area)


def share_of_patches(box: tuple[float, ...], size: tuple[int, int], grid: int = 6) -> Any:
    """How much of each patch of the central square is in a box of the photograph."""
    side = min(size)
    edges = np.linspace(0, side, grid + 1)

    def inside(low: float, high: float, offset: float) -> Any:
        starts = np.clip(edges[:-1] + offset, low, high)
        return (np.clip(edges[1:] + offset, low, high) - starts) / (side / grid)

    left, top, right, bottom = box
    across = inside(left, right, (size[0] - side) / 2)
    down = inside(top, bottom, (size[1] - side) / 2)
    return np.outer(down, across)


def test_a_box_covers_its_patches() -> None:
    share = share_of_patches((24, 0, 72, 24), (144, 96))
    # The central square begins at 24 pixels.
    assert share.tolist()[0] == [1, 1, 1, 0, 0, 0]
    assert share.tolist()[1] == [0.5, 0.5, 0.5, 0, 0, 0]
    assert share[2:].sum() == 0


@pytest.mark.slow
def test_the_training_writes_what_is_published(tmp_path: pathlib.Path) -> None:
    flags = ("--steps", "2", "--photographs", "64", "--test_images", "12", "--threads", "1")
    command = [sys.executable, "-m", "examples.train_shapes", "--to", str(tmp_path), *flags]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 12 photographs right" in done.stdout
    for name in ("config.json", "labels.txt"):
        assert (tmp_path / name).read_text() == (SHAPES / name).read_text()
    found = json.loads((tmp_path / "training.json").read_text())
    assert found.keys() == TRAINING.keys()
    source = checkpoint_source(str(tmp_path))
    variant = source.architecture()
    assert variant is not None
    assert "float16 widened" in " ".join(open_checkpoint(source, variant, tmp_path).notes)
