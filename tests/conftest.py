"""What all tests share: the data, random checkpoints, a tiny model of both heads, one real run."""

import contextlib
import functools
import gc
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Before anything imports TensorFlow. A GPU's lower precision would not hold to the bounds.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# `make test` has a worker for each of two cores. Threads of TensorFlow's operations and of NumPy's
# products wait by spinning: with two of them, a worker would take the other one's core for nothing.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pytest

from export.checkpoints.random_weights import random_tensors
from export.checkpoints.sources import Checkpoint, RandomSource, open_checkpoint
from export.variants import CaiTConfig, get_variant
from signatures import BOTH, Head
from tests.support.arrays import Replies, Serve, Tensors
from tests.support.conversions import conversions_kept
from tests.support.filesystems import filesystem_flags_kept
from tests.support.paths import DATA, REPOSITORY
from tests.support.programs import require_program
from tests.support.shared import made_once
from tests.support.snippets import Runner, snippet_runner
from tests.support.trees import SHALLOW_VARIANT, TINY_VARIANT, Result, publish_random


def pytest_configure(config: pytest.Config) -> None:
    stack = contextlib.ExitStack()
    stack.enter_context(conversions_kept())
    config.add_cleanup(stack.close)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server_binary",
        metavar="PATH",
        help="a tensorflow_model_server for the tests of serving to run against "
        "(default: the one on the PATH, if there is one)",
    )


# Each is a run of the pipeline, or a conversion of more than the tiny models.
SLOW_FIXTURES = {
    "narrow_models",
    "published",
    "publish_tiny",
    "regularised",
    "shallow_tree",
    "tiny_tree",
}

# Files that take as long as the real run.
MEANWHILE = 4


# Before those that the marks deselect are left out.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what its fixtures make slow. Files with slow tests are first.

    So no worker has a long file left when the other one is done. The first of all makes the real
    run; the other worker has something to do meanwhile, and then both go on with what needs it.
    """
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    real = dict.fromkeys(
        item.path for item in items if "published" in getattr(item, "fixturenames", ())
    )
    of_slow = dict.fromkeys(item.path for item in items if item.get_closest_marker("slow"))
    slow = [path for path in of_slow if path not in real]
    groups = [list(real)[:1], slow[:MEANWHILE], list(real), slow[MEANWHILE:]]
    rank = {path: i for i, group in reversed(list(enumerate(groups))) for path in group}
    items.sort(key=lambda item: rank.get(item.path, len(groups)))


def pytest_collection_finish() -> None:
    """Keeps what was imported out of the garbage collector's sight: 7 % of a worker's time."""
    gc.collect()
    gc.freeze()


# Before any fixture is made for the test.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs_program"):
        require_program(*mark.args)


@pytest.fixture(autouse=True)
def filesystem_flags_as_before() -> Iterator[None]:
    """Takes back the flags that a test gave Beam's filesystems, which belong to the process."""
    with filesystem_flags_kept():
        yield


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    return DATA


@pytest.fixture(scope="session")
def shards(data: pathlib.Path) -> str:
    return str(data / "sample-shard-*")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, shards: str) -> Result:
    """The main job as `make export` runs it, but for where it publishes to."""
    # As from a user's shell, which says nothing of TensorFlow's log.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}

    def make(folder: pathlib.Path) -> None:
        command = [
            *(sys.executable, "-m", "pipelines.publish"),
            *("--variants", "cait_xxs24_224", "--checkpoints", "random"),
            *("--sample_shard", shards, "--publish_to", str(folder / "tree")),
        ]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        ended = {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        (folder / "ended.json").write_text(json.dumps(ended))

    folder = made_once(tmp_path_factory, "published", make)
    return Result(**json.loads((folder / "ended.json").read_text()), tree=folder / "tree")


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory: pytest.TempPathFactory, shards: str) -> pathlib.Path:
    """A published tree of the tiny variant, both heads. Not to be written to."""
    return made_once(tmp_path_factory, "tiny-tree", publish_random(TINY_VARIANT, shards)) / "tree"


@pytest.fixture(scope="session")
def shallow_tree(tmp_path_factory: pytest.TempPathFactory, shards: str) -> pathlib.Path:
    """The tree of `published`, but of two self-attention blocks. Not to be written to.

    For what loads, calls, serves or moves a model and does not ask for its depth or its numbers.
    """
    make = publish_random(SHALLOW_VARIANT, shards)
    return made_once(tmp_path_factory, "shallow-tree", make) / "tree"


@pytest.fixture(scope="session")
def run_snippet() -> Iterator[Runner]:
    """Runs a snippet of the pages, in a process of its own."""
    with snippet_runner() as run:
        yield run


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """A variant's name -> its checked checkpoint of random weights, written once in a session."""
    cache = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def checkpoint(name: str) -> Checkpoint:
        return open_checkpoint(RandomSource(), get_variant(name), cache)

    return checkpoint


@pytest.fixture(scope="session")
def tiny_config() -> CaiTConfig:
    """Small enough to be built in a second; no two of its sizes that could be confused agree."""
    return CaiTConfig(
        image_size=32, patch_size=16, embed_dim=16, heads=2, sa_blocks=2, num_classes=10
    )


@pytest.fixture(scope="session")
def tiny_tensors(tiny_config: CaiTConfig) -> Tensors:
    """Timm's keys -> random (seeded) arrays for `tiny_config`. Not to be written to."""
    tensors = random_tensors("tiny", tiny_config)
    for tensor in tensors.values():
        tensor.setflags(write=False)
    return tensors


@pytest.fixture(scope="session")
def tiny_models(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path_factory: pytest.TempPathFactory
) -> dict[Head, pathlib.Path]:
    """Head -> directory of the SavedModel converted from `tiny_tensors`. Not to be written to."""
    from export.convert import convert

    def make(root: pathlib.Path) -> None:
        for _ in convert("tiny", tiny_config, tiny_tensors, {head: root / head for head in BOTH}):
            pass

    root = made_once(tmp_path_factory, "tiny", make)
    return {head: root / head for head in BOTH}


@pytest.fixture(scope="session")
def serve_from() -> Iterator[Callable[[pathlib.Path], Serve]]:
    """A SavedModel's directory -> a call of its signatures, as a server does it.

    That is in a session, by the names in the meta graph, and with nothing in Python that looks at
    a request's shapes before the graph does. A call takes a signature's name and its inputs.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    sessions = []

    def serve_from(directory: pathlib.Path) -> Serve:
        session = tf.compat.v1.Session(graph=tf.Graph())
        sessions.append(session)
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))

        @functools.cache
        def callable_of(signature: str) -> Callable[..., list[npt.NDArray[np.generic]]]:
            definition = loaded.signature_def[signature]
            # `Session.run`, and `make_callable` of it, would hold a feed to its static shape.
            options = config_pb2.CallableOptions(
                feed=[definition.inputs[key].name for key in sorted(definition.inputs)],
                fetch=[definition.outputs[key].name for key in sorted(definition.outputs)],
            )
            run: Callable[..., list[npt.NDArray[np.generic]]]
            run = session._make_callable_from_options(options)
            return run

        def serve(signature: str, **inputs: Any) -> Replies:
            definition = loaded.signature_def[signature]
            assert set(inputs) == set(definition.inputs)
            arrays = [
                np.asarray(inputs[key], tf.as_dtype(definition.inputs[key].dtype).as_numpy_dtype)
                for key in sorted(inputs)
            ]
            replies = callable_of(signature)(*arrays)
            return dict(zip(sorted(definition.outputs), replies, strict=True))

        return serve

    yield serve_from
    for session in sessions:
        session.close()


@pytest.fixture(scope="session")
def tiny_served(
    tiny_models: dict[Head, pathlib.Path], serve_from: Callable[[pathlib.Path], Serve]
) -> dict[Head, Serve]:
    """Head -> a call of the tiny model's signatures: `call("logits", images=...)`."""
    return {head: serve_from(directory) for head, directory in tiny_models.items()}
