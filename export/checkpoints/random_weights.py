"""Random (seeded) weights, for runs and tests without trained ones.

Initial weights would not do: their LayerScale of 1e-5 or 1e-6 makes a block add almost nothing, so
a wrong block would pass any comparison. With these weights every tensor has an effect. The stored
reference outputs in `tests/data/golden` were computed with the same ones.
"""

import zlib

import numpy as np

from ..variants import CaiTConfig
from ..weights import Array, expected_shapes


def random_tensors(seed: str, config: CaiTConfig) -> dict[str, Array]:
    """Random tensors for all of an architecture's weights, by timm's keys.

    Args:
        seed: as `random_tensor` takes it: a variant's name, for its random weights.
        config: the architecture.
    """
    return {key: random_tensor(seed, key, shape) for key, shape in expected_shapes(config).items()}


def random_tensor(seed: str, key: str, shape: tuple[int, ...]) -> Array:
    """A random tensor: float32, the same on every machine.

    Args:
        seed: a variant's name; together with the key it determines the numbers.
        key: timm's key, which determines the distribution.
        shape: in timm's layout.
    """
    z = seeded_normal(f"{seed}:{key}", shape)
    last = key.rsplit(".", 1)[-1]
    if last in ("gamma_1", "gamma_2"):
        value = 0.2 + 0.05 * z
    elif key in ("pos_embed", "cls_token"):
        value = 0.2 * z
    elif "norm" in key and last == "weight":
        value = 1 + 0.1 * z
    elif last == "bias":
        value = 0.1 * z
    elif key.endswith(("proj_l.weight", "proj_w.weight")):
        heads = shape[0]
        value = np.eye(heads) + 0.2 * z / np.sqrt(np.float32(heads))
    else:
        value = z / np.sqrt(np.float32(np.prod(shape[1:])))
    return value.astype(np.float32, copy=False)


def seeded_normal(seed: str, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, float32, that depend on the seed alone."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    return generator.standard_normal(shape, dtype=np.float32)
