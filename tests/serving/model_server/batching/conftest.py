"""A model that tells of the batches it was run in, and servers of it."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest
import tensorflow as tf

from tests.support.batching import Batched, Told
from tests.support.model_server import publish


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("told") / "model"
    model = Told()
    signatures = {
        "serving_default": model.told,
        "pair": model.pair,
        "positive": model.positive,
        "scalar": model.scalar,
        "short": model.short,
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)
    return directory


@pytest.fixture
def batched(told: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Batched]:
    with contextlib.ExitStack() as stack:
        yield Batched(told, tmp_path, stack)


@pytest.fixture
def base(told: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1", told)
    return tmp_path / "m"
