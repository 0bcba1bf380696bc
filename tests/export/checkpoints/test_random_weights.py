"""Random weights against those with which the stored outputs were computed."""

import hashlib
import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest

from export.checkpoints.random_weights import random_tensor, seeded_normal
from export.variants import VARIANTS
from export.weights import expected_shapes


@pytest.fixture(scope="module")
def golden(data: pathlib.Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((data / "golden" / "info.json").read_text())
    return info


def test_every_variant_has_stored_outputs(golden: dict[str, Any]) -> None:
    assert set(golden) == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_tensors_are_those_of_the_stored_outputs(name: str, golden: dict[str, Any]) -> None:
    shapes = expected_shapes(VARIANTS[name].config)
    assert len(shapes) == golden[name]["tensors"]
    assert sum(math.prod(shape) for shape in shapes.values()) == golden[name]["params"]
    for key, digest in (
        ("blocks.0.attn.qkv.weight", golden[name]["sha256_qkv0"]),
        ("head.weight", golden[name]["sha256_head"]),
    ):
        made = random_tensor(name, key, shapes[key])
        assert made.dtype == np.float32
        assert hashlib.sha256(made.tobytes()).hexdigest() == digest


@pytest.mark.parametrize("name", VARIANTS)
def test_input_is_that_of_the_stored_outputs(name: str, golden: dict[str, Any]) -> None:
    # Numbers of a generator come in one row, so the first do not depend on the shape.
    assert seeded_normal(f"{name}:input", (5,)).tolist() == golden[name]["input_first5"]


# Scale and centre of each kind of tensor. The stored digests see only "any other weight".
@pytest.mark.parametrize(
    ("key", "shape", "centre", "scale"),
    [
        ("blocks.3.gamma_1", (4000,), 0.2, 0.05),
        ("blocks_token_only.1.gamma_2", (4000,), 0.2, 0.05),
        ("pos_embed", (1, 400, 10), 0.0, 0.2),
        ("cls_token", (1, 1, 4000), 0.0, 0.2),
        ("norm.weight", (4000,), 1.0, 0.1),
        ("blocks.3.norm2.weight", (4000,), 1.0, 0.1),
        ("blocks.3.norm2.bias", (4000,), 0.0, 0.1),
        ("blocks.3.attn.proj_l.bias", (4000,), 0.0, 0.1),
        ("head.bias", (4000,), 0.0, 0.1),
        ("head.weight", (400, 16), 0.0, 1 / 4),
        ("patch_embed.proj.weight", (100, 3, 4, 4), 0.0, 1 / math.sqrt(48)),
    ],
)
def test_the_key_decides_the_distribution(
    key: str, shape: tuple[int, ...], centre: float, scale: float
) -> None:
    made = random_tensor("any", key, shape)
    assert (made.shape, made.dtype) == (shape, np.float32)
    # Of 4000 numbers, the mean is within 5 standard errors and the deviation within 8 %.
    assert abs(made.mean() - centre) < 5 * scale / math.sqrt(made.size)
    assert made.std() == pytest.approx(scale, rel=0.08)


@pytest.mark.parametrize("key", ["blocks.3.attn.proj_l.weight", "blocks.3.attn.proj_w.weight"])
def test_talking_heads_are_near_the_identity(key: str) -> None:
    made = random_tensor("any", key, (64, 64))
    assert made.dtype == np.float32
    z = (made - np.eye(64)) / 0.2 * math.sqrt(64)
    assert abs(z.mean()) < 5 / 64
    assert z.std() == pytest.approx(1, rel=0.08)
    np.testing.assert_allclose(z, seeded_normal(f"any:{key}", (64, 64)), rtol=0, atol=1e-5)


def test_another_variant_or_key_gives_other_numbers() -> None:
    made = [
        random_tensor(variant, key, (8,))
        for variant in ("cait_xxs24_224", "cait_xxs24_384")
        for key in ("norm.bias", "head.bias")
    ]
    assert len({array.tobytes() for array in made}) == 4
    np.testing.assert_array_equal(made[0], random_tensor("cait_xxs24_224", "norm.bias", (8,)))
