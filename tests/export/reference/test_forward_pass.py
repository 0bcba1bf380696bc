"""The NumPy reference: what it calls, reads and shares. Its numbers are held in `test_golden`."""

import ast
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from export.checkpoints.random_weights import random_tensors, seeded_normal
from export.checkpoints.safetensors_file import LazyTensors
from export.reference import forward_pass as reference
from export.variants import CaiTConfig

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def images(tiny_config: CaiTConfig) -> Array:
    size = tiny_config.image_size
    return seeded_normal("reference", (3, size, size, 3))


class Watched(Mapping[str, Array]):
    """Tensors that remember which of them were looked up."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Array:
        self.read.add(key)
        return self.tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_shapes_and_types(
    tiny_config: CaiTConfig, tiny_tensors: dict[str, Array], images: Array
) -> None:
    outputs = reference.forward(tiny_tensors, images)
    assert outputs.logits is not None
    assert outputs.logits.shape == (3, 10)
    assert outputs.features.shape == (3, 16)
    assert [attention.shape for attention in outputs.class_attention] == [(3, 2, 1, 5)] * 2
    for array in (outputs.logits, outputs.features, *outputs.class_attention):
        assert array.dtype == np.float32
    for attention in outputs.class_attention:
        np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=0, atol=1e-6)


def test_the_sink_gets_every_block_in_order(tiny_tensors: dict[str, Array], images: Array) -> None:
    received: list[tuple[int, Array]] = []

    def sink(block: int, attention: Array) -> None:
        received.append((block, attention.copy()))

    with_sink = reference.forward(tiny_tensors, images, sink)
    assert [block for block, _ in received] == [0, 1]
    for _, attention in received:
        assert (attention.shape, attention.dtype) == ((3, 2, 4, 4), np.float32)
    assert np.abs(received[0][1] - received[1][1]).max() > 0.01
    without = reference.forward(tiny_tensors, images)
    np.testing.assert_array_equal(with_sink.features, without.features)


def test_blocks_are_taken_by_number_and_not_by_name(images: Array) -> None:
    # By name, block 10 would come before block 2. Eleven blocks of which each has its own bias
    # after the softmax, by which its attention is known.
    config = CaiTConfig(32, 16, 4, 1, 11, ca_blocks=1, num_classes=1)
    tensors = random_tensors("eleven", config)
    for block in range(11):
        tensors[f"blocks.{block}.attn.proj_w.weight"] = np.zeros((1, 1), np.float32)
        tensors[f"blocks.{block}.attn.proj_w.bias"] = np.full(1, block, np.float32)
    received: list[tuple[int, float]] = []
    reference.forward(
        dict(reversed(tensors.items())),
        images[:1],
        lambda block, attention: received.append((block, float(attention.mean()))),
    )
    assert received == [(block, float(block)) for block in range(11)]


def test_each_kind_of_block_is_counted_by_itself(images: Array) -> None:
    # "blocks_token_only" begins as "blocks" does.
    config = CaiTConfig(32, 16, 16, 2, 1, ca_blocks=3, num_classes=10)
    tensors = random_tensors("three", config)
    received: list[int] = []
    outputs = reference.forward(tensors, images, lambda block, _: received.append(block))
    assert (received, len(outputs.class_attention)) == ([0], 3)


def test_without_a_head_there_are_no_logits(tiny_tensors: dict[str, Array], images: Array) -> None:
    headless = {key: t for key, t in tiny_tensors.items() if not key.startswith("head.")}
    outputs = reference.forward(headless, images)
    assert outputs.logits is None
    np.testing.assert_array_equal(
        outputs.features, reference.forward(tiny_tensors, images).features
    )


def test_a_missing_tensor_is_a_key_error(tiny_tensors: dict[str, Array], images: Array) -> None:
    without = {key: t for key, t in tiny_tensors.items() if key != "blocks.1.gamma_2"}
    with pytest.raises(KeyError, match=r"blocks\.1\.gamma_2"):
        reference.forward(without, images)


def test_every_tensor_is_read_and_none_is_changed(
    tiny_tensors: dict[str, Array], images: Array
) -> None:
    # Arrays of `tiny_tensors` are read-only, so a change in place would fail here, too.
    images = images.copy()
    images.setflags(write=False)
    watched = Watched(tiny_tensors)
    reference.forward(watched, images)
    assert watched.read == set(tiny_tensors)


def test_images_of_a_batch_do_not_meet(tiny_tensors: dict[str, Array], images: Array) -> None:
    together = reference.forward(tiny_tensors, images)
    assert together.logits is not None
    for i in range(len(images)):
        alone = reference.forward(tiny_tensors, images[i : i + 1])
        assert alone.logits is not None
        np.testing.assert_allclose(alone.logits[0], together.logits[i], rtol=0, atol=1e-6)
    assert np.abs(together.logits[0] - together.logits[1]).max() > 0.01


def test_tensors_may_be_read_lazily(
    tiny_tensors: dict[str, Array], images: Array, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "tiny.safetensors"
    safetensors.numpy.save_file(tiny_tensors, path)
    lazily = reference.forward(LazyTensors(str(path)), images)
    at_once = reference.forward(tiny_tensors, images)
    np.testing.assert_array_equal(lazily.features, at_once.features)
    assert lazily.logits is not None
    assert at_once.logits is not None
    np.testing.assert_array_equal(lazily.logits, at_once.logits)


def test_it_shares_nothing_with_the_model_that_is_compared_with_it() -> None:
    # A mistake in code that both used would be in both, and the comparison would pass.
    tree = ast.parse(pathlib.Path(reference.__file__).read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} imports a module of this project"
            imported.add((node.module or "").split(".")[0])
    assert imported == {"collections", "dataclasses", "numpy", "scipy"}
