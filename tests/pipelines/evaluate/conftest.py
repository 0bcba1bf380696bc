"""What tests of the evaluation share: labelled images, a model of somebody's own, the command."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from export.checkpoints.random_weights import random_tensors
from export.variants import CaiTConfig
from pipelines.evaluate.command import main
from tests.support.arrays import Tensors
from tests.support.labelled_images import ZOO, Labelled, ranked_images
from tests.support.trees import TINY, TINY_VARIANT, convert_version

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def labelled() -> list[Labelled]:
    """Images of which the tiny variant has a known part right."""
    config = TINY_VARIANT.config
    tensors = random_tensors(TINY, config)
    # The places right before and after the limits are the ones that a wrong count would show on.
    ranks = [0] * 265 + [1, 2, 3, 4] * 21 + [5, 6, 999] * 17
    np.random.default_rng(7).shuffle(ranks)
    return ranked_images(config, tensors, ranks, 11)


@pytest.fixture
def models(tiny_tree: pathlib.Path) -> str:
    return str(tiny_tree / "serving")


@pytest.fixture(scope="session")
def zoo(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """`serving` of a tree with a model of somebody's own. Not to be written to."""
    serving = tmp_path_factory.mktemp("zoo") / "serving"
    convert_version(serving / "my-zoo" / "1", tiny_config, tiny_tensors, ZOO)
    return str(serving)


@pytest.fixture(scope="session")
def animals(tiny_config: CaiTConfig, tiny_tensors: Tensors) -> list[Labelled]:
    """Images with the classes that the model of `zoo` answers."""
    return ranked_images(tiny_config, tiny_tensors, [0] * 40, 3)


@pytest.fixture
def evaluate(
    tiny_variant: object, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> Evaluate:
    """Runs the command within this process, on data and with more flags: its status, stdout and
    stderr.
    """

    def run(models: str, *data_and_flags: str) -> tuple[int, str, str]:
        capfd.readouterr()
        output = str(tmp_path / "out")
        status = main(["--models", models, "--output", output, "--data", *data_and_flags])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refused(evaluate: Evaluate, tmp_path: pathlib.Path) -> Callable[..., str]:
    """Runs the command, which has to find its input wrong: its message."""

    def run(models: str, data: str, *flags: str) -> str:
        status, stdout, stderr = evaluate(models, data, *flags)
        assert (status, stdout) == (2, "")
        (line,) = stderr.splitlines()
        assert line.startswith("error: ")
        assert not (tmp_path / "out").exists()
        return line

    return run
