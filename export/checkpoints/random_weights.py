"""Weights by rule, for runs and tests without the trained ones.

A variant's own initial weights would not do: LayerScale starts at 1e-5 or 1e-6, so that every
block adds next to nothing and a wrong block passes any comparison. Here every tensor counts. The
rule is that of the stored reference outputs in `tests/data/golden`.
"""

import zlib

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def random_tensor(variant: str, key: str, shape: tuple[int, ...]) -> Array:
    """One tensor of a variant: float32, the same on every machine.

    Args:
        variant: seeds the tensor, together with the key.
        key: timm's name of the tensor, which decides its distribution.
        shape: its shape in timm's layout.
    """
    z = seeded_normal(f"{variant}:{key}", shape)
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
    """Standard normal numbers that depend on a text alone: float32 of the given shape."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    return generator.standard_normal(shape, dtype=np.float32)
