"""What the tests of models share: models, images, and what is to be returned for them."""

import pathlib

import pytest
import tf_keras

from export.checkpoints.random_weights import random_tensors
from export.convert import convert
from export.reference.forward_pass import forward
from export.variants import CaiTConfig
from tests.support.arrays import IMAGES, Array, Tensors
from tests.support.keras_models import built, tiny_with


@pytest.fixture(scope="session")
def wanted(tiny_tensors: Tensors) -> dict[str, Array]:
    """What a call returns for `IMAGES`, by name, from the reference."""
    outputs: dict[str, Array] = {}

    def sink(block: int, attention: Array) -> None:
        outputs[f"sa_ffn_block_{block}_att"] = attention.copy()

    reference = forward(tiny_tensors, IMAGES, sink)
    assert reference.logits is not None
    outputs |= {f"ca_ffn_block_{i}_att": a for i, a in enumerate(reference.class_attention)}
    return outputs | {"classifier": reference.logits, "features": reference.features}


@pytest.fixture(scope="session")
def regularised(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaiTConfig, pathlib.Path]:
    """A SavedModel that acts in training."""
    config = CaiTConfig(32, 16, 16, 2, 2, num_classes=10, dropout_rate=0.2, drop_path_rate=0.2)
    tensors = random_tensors("acts", config)
    directory = tmp_path_factory.mktemp("regularised") / "model"
    list(convert("acts", config, tensors, {"classifier": directory}))
    return config, directory


@pytest.fixture(scope="module")
def classifier(tiny_config: CaiTConfig) -> tf_keras.Model:
    """A Keras model whose rates are zero."""
    return built(tiny_config)


@pytest.fixture(scope="module")
def with_rates() -> tf_keras.Model:
    """The same one, with dropout and stochastic depth."""
    return built(tiny_with(dropout_rate=0.3, drop_path_rate=0.3))
