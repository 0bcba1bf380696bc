"""The reference and the Keras model against timm's own outputs, for each of the ten variants.

The bounds are 4 to 10 times what timm's single precision is away from its double precision, and
below what the smallest wrong detail does (see `tests/data/golden/README.md`).
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tf_keras

from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.memory import garbage_collector_paused, release_memory
from export.model import build_classifier, features_of
from export.reference import forward_pass as reference
from export.variants import VARIANTS, CaiTConfig
from export.weights import assign_weights

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]

OUTPUTS = 1e-5
ATTENTION = 1e-6
# Of a block's whole attention, relative to the sum of its absolute values: the sum itself may be
# anywhere near 0, because the talking heads give attention of both signs.
SUMS = 1e-5
# What a pass with more attention than this returns is computed image by image: of both images, all
# attention of the largest variant is 3.6 GiB. A batch of both spares the second pass through Keras.
LARGE = 1 << 30


class Blocks:
    """What is stored of the self-attention, taken block by block and image by image.

    Nothing of a block is kept but four rows of three blocks and two sums of each.
    """

    def __init__(self, config: CaiTConfig) -> None:
        count = config.sa_blocks
        self.rows: dict[int, list[Array]] = {0: [], count // 2: [], count - 1: []}
        self.sums = np.zeros(count)
        self.abs_sums = np.zeros(count)

    def take(self, block: int, attention: Array) -> None:
        """Takes (images, H, N, N) of one block; further images of it may come later."""
        if block in self.rows:
            self.rows[block].append(attention[:, :, :4].copy())
        self.sums[block] += attention.sum(dtype=np.float64)
        self.abs_sums[block] += np.abs(attention).sum(dtype=np.float64)

    def compare(self, golden: dict[str, npt.NDArray[Any]]) -> None:
        for block, rows in self.rows.items():
            stored = golden[f"sa_{block}_rows"]
            np.testing.assert_allclose(
                np.concatenate(rows), stored, rtol=0, atol=ATTENTION, err_msg=f"block {block}"
            )
        bounds = SUMS * golden["sa_abs_sums"]
        assert (np.abs(self.sums - golden["sa_sums"]) <= bounds).all()
        assert (np.abs(self.abs_sums - golden["sa_abs_sums"]) <= bounds).all()


def compare(
    logits: Array,
    features: Array,
    class_attention: dict[int, Array],
    golden: dict[str, npt.NDArray[Any]],
    argmax: list[int],
) -> None:
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=OUTPUTS)
    np.testing.assert_allclose(features, golden["features"], rtol=0, atol=OUTPUTS)
    assert set(class_attention) == {0, 1}
    for block, attention in class_attention.items():
        stored = golden[f"ca_{block}"]
        np.testing.assert_allclose(attention, stored, rtol=0, atol=ATTENTION)
    assert logits.argmax(axis=1).tolist() == argmax


def attention_bytes(config: CaiTConfig, images: int) -> int:
    """Of all self-attention blocks."""
    return images * config.sa_blocks * config.heads * config.patches**2 * 4


@pytest.fixture
def memory_returned() -> Iterator[None]:
    """Gives back what Keras would keep of a model until the next one is built."""
    yield
    tf_keras.backend.clear_session()
    release_memory()


@pytest.mark.usefixtures("memory_returned")
@pytest.mark.parametrize(
    "name",
    [variant.name for variant in sorted(VARIANTS.values(), key=lambda variant: variant.flops_g)],
)
def test_outputs_are_timm_s(name: str, data: pathlib.Path) -> None:
    config = VARIANTS[name].config
    with np.load(data / "golden" / f"{name}.npz") as archive:
        golden = dict(archive)
    argmax = json.loads((data / "golden" / "info.json").read_text())[name]["argmax"]
    tensors = random_tensors(name, config)
    images = seeded_normal(f"{name}:input", (2, config.image_size, config.image_size, 3))

    blocks = Blocks(config)
    by_numpy = reference.forward(tensors, images, blocks.take)
    blocks.compare(golden)
    assert by_numpy.logits is not None
    compare(
        by_numpy.logits,
        by_numpy.features,
        dict(enumerate(by_numpy.class_attention)),
        golden,
        argmax,
    )

    with garbage_collector_paused():
        classifier = build_classifier(config, name, initial=False)
        assign_weights(classifier, config, tensors)
        # Before the attention needs the memory: all tensors may be 1.4 GB.
        del tensors
        extractor = features_of(classifier, f"{name}_fe")
        # Both heads in one pass. That each of them alone gives the same is tested on a tiny model.
        both = tf_keras.Model(classifier.input, (extractor.output[0], classifier.output))
    release_memory()

    blocks = Blocks(config)
    parts: list[tuple[Array, Array, dict[int, Array]]] = []
    for batch in np.split(images, 1 if attention_bytes(config, len(images)) < LARGE else 2):
        features, (logits, self_attention, class_attention) = both(batch)
        assert len(self_attention) == config.sa_blocks
        for block in range(config.sa_blocks):
            blocks.take(block, self_attention.pop(f"sa_ffn_block_{block}_att").numpy())
        attention = {i: class_attention[f"ca_ffn_block_{i}_att"].numpy() for i in range(2)}
        parts.append((logits.numpy(), features.numpy(), attention))
    blocks.compare(golden)
    logits, features = (np.concatenate([part[i] for part in parts]) for i in range(2))
    compare(
        logits,
        features,
        {i: np.concatenate([part[2][i] for part in parts]) for i in range(2)},
        golden,
        argmax,
    )


# What the comparison is worth: wrong details of the reference that the bounds have to catch.


def tanh_gelu(tensors: Any, prefix: str, x: Array) -> Array:
    h = reference._linear(tensors, prefix + "fc1.", x)
    inner = np.float32(math.sqrt(2 / math.pi)) * (h + np.float32(0.044715) * h**3)
    return reference._linear(tensors, prefix + "fc2.", (h * 0.5 * (1 + np.tanh(inner))))


def wide_layer_norm(tensors: Any, prefix: str, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    result: Array = centred / scale * tensors[prefix + "weight"] + tensors[prefix + "bias"]
    return result


def talking_without_bias(mix: Callable[..., Array], tensors: Any, prefix: str, x: Array) -> Array:
    bias = tensors[prefix + "bias"] if prefix.endswith("proj_w.") else np.float32(0)
    return mix(tensors, prefix, x) - np.reshape(bias, (-1, 1, 1))


@pytest.mark.parametrize("detail", ["GELU by tanh", "epsilon 1e-5", "proj_w without bias"])
def test_the_bounds_catch_wrong_details(
    detail: str, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cait_xxs24_224"
    replaced = {
        "GELU by tanh": ("_mlp", tanh_gelu),
        "epsilon 1e-5": ("_layer_norm", wide_layer_norm),
        "proj_w without bias": (
            "_mix_heads",
            functools.partial(talking_without_bias, reference._mix_heads),
        ),
    }[detail]
    monkeypatch.setattr(reference, *replaced)
    with np.load(data / "golden" / f"{name}.npz") as archive:
        golden = dict(archive)
    outputs = reference.forward(
        random_tensors(name, VARIANTS[name].config),
        seeded_normal(f"{name}:input", (2, 224, 224, 3)),
    )
    assert outputs.logits is not None
    # Twice the bound, so that it is not by rounding.
    assert np.abs(outputs.logits - golden["logits"]).max() > 2 * OUTPUTS
