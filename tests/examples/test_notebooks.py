"""The notebooks: run from top to bottom as they are committed, and what is committed with them."""

import base64
import dataclasses
import io
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.compute import Compute
from export.variants import VARIANTS, CaiTConfig
from pipelines.publish.command import main as publish
from pipelines.publish.options import parse
from tests.support.arrays import Tensors
from tests.support.paths import REPOSITORY
from tests.support.readme import words
from tests.support.trees import TINY, TINY_VARIANT, Result, convert_version

# Imported where it is needed: it takes seconds, and every worker imports this file.
if TYPE_CHECKING:
    from nbformat import NotebookNode

EXAMPLES = REPOSITORY / "examples"
# Notebook: how many pictures it shows.
PICTURES = {"classification": 2, "explaining": 1, "finetuning": 2}
NAMES = pytest.mark.parametrize("name", PICTURES)

# What a notebook reads of the repository. The rest of its surroundings is the test's.
READ = ("export", "signatures", "serving", "serving_configs", "tests")


def committed(name: str) -> "NotebookNode":
    import nbformat

    book = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    return book


def code(book: "NotebookNode") -> "list[NotebookNode]":
    return [cell for cell in book.cells if cell.cell_type == "code"]


def outputs(book: "NotebookNode") -> "Iterator[NotebookNode]":
    for cell in code(book):
        yield from cell.outputs


def pictures(book: "NotebookNode") -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
        for output in outputs(book)
        if "image/png" in output.get("data", {})
    ]


def texts(book: "NotebookNode") -> list[str]:
    """What each cell wrote and returned, as text."""
    return [
        "".join(
            output.text if output.output_type == "stream" else output.data["text/plain"]
            for output in cell.outputs
        )
        for cell in code(book)
    ]


def workspace(root: pathlib.Path, tree: pathlib.Path) -> pathlib.Path:
    """A repository as a notebook sees it when `tree` is what it has published."""
    (root / "examples").mkdir()
    (root / "build").mkdir()
    (root / "build" / "published").symlink_to(tree)
    for folder in READ:
        (root / folder).symlink_to(REPOSITORY / folder)
    return root


def execute(name: str, root: pathlib.Path, after_parameters: str = "") -> "NotebookNode":
    """A committed notebook after a run in a kernel of this interpreter, without old outputs.

    Args:
        name: the notebook's.
        root: its repository.
        after_parameters: a cell that is run after the one with the parameters.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    book = committed(name)
    for cell in code(book):
        cell.outputs, cell.execution_count = [], None
    cells = list(book.cells)
    if after_parameters:
        (place,) = (i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
        cells.insert(place + 1, nbformat.v4.new_code_cell(after_parameters))
    # The same cells, so that what they put out is in both.
    run = nbformat.v4.new_notebook(cells=cells, metadata=book.metadata)
    # No kernel that is installed anywhere, which may be of another interpreter.
    kernels = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    client = NotebookClient(
        run, km=manager, timeout=1800, resources={"metadata": {"path": str(root / "examples")}}
    )
    # A cell that fails ends the run with its error.
    client.execute(cleanup_kc=True, env=os.environ | {"IPYTHONDIR": str(root / "ipython")})
    assert manager.kernel_spec is not None
    assert manager.kernel_spec.argv[0] == sys.executable
    assert all(cell.execution_count for cell in code(book))
    assert not [output for output in outputs(run) if output.output_type == "error"]
    return book


def assert_shows(book: "NotebookNode", count: int) -> None:
    """Holds a notebook to showing pictures that are not empty."""
    shown = pictures(book)
    assert len(shown) == count
    for picture in shown:
        assert np.asarray(picture.convert("L")).std() > 10


PUBLISH = [".venv/bin/python", "-m", "pipelines.publish"]


def commands(book: "NotebookNode") -> list[list[str]]:
    """The commands that its text shows."""
    return [
        words(line)
        for cell in book.cells
        if cell.cell_type == "markdown"
        for line in re.findall(r"^```sh\n(.+)\n```$", cell.source, re.MULTILINE)
    ]


def assert_tensorboard_has_curves(shown: list[str], root: pathlib.Path) -> None:
    """Holds the command that a notebook shows to finding a loss for every step."""
    program, *flags = shown
    assert program == ".venv/bin/tensorboard"
    command = [sys.executable, "-m", "tensorboard.main", *flags, "--inspect", "--tag", "batch_loss"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = re.findall(r"^tensor\n(?:.*\n)*?   num_steps +(\d+)", done.stdout, re.MULTILINE)
    # Of the layer and of the classifier.
    assert sorted(map(int, found)) == [3, 12], done.stdout


def test_classification_runs(published: Result, tmp_path: pathlib.Path) -> None:
    assert published.status == 0, published.stderr
    book = execute("classification", workspace(tmp_path, published.tree))
    assert_shows(book, PICTURES["classification"])
    # What is committed was written by these very cells.
    assert texts(book) == texts(committed("classification"))


def test_explaining_runs(published: Result, tmp_path: pathlib.Path) -> None:
    book = execute("explaining", workspace(tmp_path, published.tree))
    assert_shows(book, PICTURES["explaining"])
    assert texts(book) == texts(committed("explaining"))


@pytest.fixture
def tree_with_bfloat16(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> pathlib.Path:
    """A tree whose newest version computes in bfloat16, and has fewer classes than five."""
    tree = tmp_path / "tree"
    config = dataclasses.replace(tiny_config, num_classes=4)
    of_head = ("head.weight", "head.bias")
    tensors = {**tiny_tensors, **{key: tiny_tensors[key][:4] for key in of_head}}
    convert_version(tree / "serving" / TINY / "9", config, tensors, ("a", "b", "c", "d"))
    convert_version(
        tree / "serving" / TINY / "10", config, tensors, ("a", "b", "c", "d"), Compute("bfloat16")
    )
    # Another program's, without a manifest.
    (tree / "serving" / TINY / "11").mkdir()
    return tree


@pytest.mark.parametrize("name", ["classification", "explaining"])
@pytest.mark.slow
def test_a_notebook_runs_on_a_version_in_bfloat16(
    name: str, tree_with_bfloat16: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "repository").mkdir()
    root = workspace(tmp_path / "repository", tree_with_bfloat16)
    book = execute(name, root, f"MODEL = {TINY!r}")
    assert_shows(book, PICTURES[name])
    assert "4 logits, equal" in "".join(texts(book)) or name == "explaining"


# The notebook's own variant would take minutes.
SMALL = """
import sys

sys.path.insert(0, str(REPOSITORY.resolve()))

from export.variants import VARIANTS
from tests.support.trees import TINY, TINY_VARIANT

VARIANTS[TINY] = TINY_VARIANT
VARIANT, IMAGE_SIZE = TINY, 48
"""


@pytest.mark.slow
def test_finetuning_runs_and_its_command_publishes_what_was_learnt(
    tiny_tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VARIANTS, TINY, TINY_VARIANT)
    root = workspace(tmp_path, tiny_tree)
    book = execute("finetuning", root, SMALL)
    assert_shows(book, PICTURES["finetuning"])
    # But for the counts, which are of the variant.
    found, wanted = (
        [re.sub(r"\d+ (?=variables|tensors)", "", text) for text in texts(one)]
        for one in (book, committed("finetuning"))
    )
    assert found == wanted

    curves, command = commands(book)
    assert_tensorboard_has_curves(curves, root)
    assert command[:3] == PUBLISH
    monkeypatch.chdir(root)
    assert publish(["32" if word == "224" else word for word in command[3:]]) == 0
    directory = root / "build" / "finetuning" / "published" / "serving" / "patterns" / "1"
    model = tf.saved_model.load(str(directory))
    image = next((root / "build" / "finetuning" / "images" / "dots").iterdir()).read_bytes()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    features = tf.train.Features(feature={"image/encoded": feature})
    example = tf.train.Example(features=features).SerializeToString()
    (labels,) = model.signatures["classify"](inputs=tf.constant([example]))["classes"].numpy()
    assert sorted(labels) == [b"checks", b"dots", b"rings", b"stripes", b"waves"]


def test_the_command_for_real_weights_is_accepted() -> None:
    (command,) = commands(committed("classification"))
    assert command[:3] == PUBLISH
    options, _ = parse(command[3:])
    assert (options.checkpoints, options.variants) == ("hf", ("cait_xxs24_224",))


@NAMES
def test_a_committed_notebook_shows_its_own_run(name: str) -> None:
    path = EXAMPLES / f"{name}.ipynb"
    # GitHub shows no notebooks of many megabytes; a repository keeps every one for ever.
    assert path.stat().st_size < 600_000
    book = committed(name)
    assert book.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    counts = [cell.execution_count for cell in code(book)]
    assert counts == list(range(1, len(counts) + 1))
    for output in outputs(book):
        assert output.output_type in ("stream", "display_data", "execute_result")
        # Warnings.
        assert output.get("name") != "stderr", output.text
    assert_shows(book, PICTURES[name])
    # Paths of the machine that ran it.
    assert not re.findall(r"(?<![\w.])/(?:\w+/)+", "".join(texts(book)))


def test_no_notebook_is_left_out() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(PICTURES)
