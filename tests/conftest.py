"""What all tests share: where the data is, checkpoints by rule, and a tiny model of both heads."""

import functools
import os
import pathlib
from collections.abc import Callable

# Before anything imports TensorFlow. A GPU's lower precision would not hold to the bounds.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import numpy.typing as npt
import pytest

from export.checkpoints import Checkpoint, RandomSource, open_checkpoint
from export.random_weights import random_tensor
from export.variants import CaiTConfig, get_variant
from export.weights import expected_shapes
from signatures import BOTH, Head

DATA = pathlib.Path(__file__).parent / "data"

Tensors = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    return DATA


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """A variant's name -> its checked checkpoint, by rule. Written once in a session."""
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
    """Timm's keys -> arrays by rule, for `tiny_config`. Not to be written to."""
    tensors = {
        key: random_tensor("tiny", key, shape)
        for key, shape in expected_shapes(tiny_config).items()
    }
    for tensor in tensors.values():
        tensor.setflags(write=False)
    return tensors


@pytest.fixture(scope="session")
def tiny_models(
    tiny_config: CaiTConfig, tiny_tensors: Tensors, tmp_path_factory: pytest.TempPathFactory
) -> dict[Head, pathlib.Path]:
    """Head -> directory of the SavedModel converted from `tiny_tensors`. Not to be written to."""
    from export.convert import convert

    root = tmp_path_factory.mktemp("tiny")
    directories = {head: root / head for head in BOTH}
    for _ in convert("tiny", tiny_config, tiny_tensors, directories):
        pass
    return directories
