"""Architectures by timm's arguments: variants, and those of one's own.

timm describes a model by the name of an architecture and by the arguments that differ from those of
that name: `architecture` and `model_args` of its `config.json`. Where these make other blocks than
those of any variant, the architecture is the user's own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .variants import MLP_RATIO, VARIANTS, CaiTConfig, Variant

# timm's argument -> the size in `CaiTConfig`.
_SIZES = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "embed_dim",
    "num_heads": "heads",
    "depth": "sa_blocks",
    "depth_token_only": "ca_blocks",
}
# With other values the same weights are another function.
_FIXED: dict[str, Any] = {
    "in_chans": 3,
    "qkv_bias": True,
    "mlp_ratio": MLP_RATIO,
    "mlp_ratio_token_only": MLP_RATIO,
    "global_pool": "token",
}
# Of no effect on a trained model; the classes are counted in the weights.
_IN_TRAINING = (
    "num_classes",
    "init_values",
    "drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
)
_BLOCKS = ("patch_size", "embed_dim", "heads", "sa_blocks", "ca_blocks")

MOST_PATCHES = 64**2
"""The attention of one block then has 4096 x 4096 values for each head: 0.25 GiB with four heads,
and 1 GiB with the 16 of the largest variants."""

_BASE = "cait_xxs24_224"
"""The name that timm builds an architecture of one's own from."""


def variant_of(architecture: str, model_args: Mapping[str, Any]) -> Variant:
    """The variant that timm's name and arguments describe, or one of the user's own.

    Args:
        architecture: a variant's name.
        model_args: the arguments that differ from the variant's.

    Returns:
        A variant with these blocks, whatever its image size: weights have positions of their own.
        Where there is none, `own_variant`.

    Raises:
        ValueError: an argument is unknown, or has a value that a CaiT here cannot have. The message
            names it.
        KeyError: there is no such variant.
    """
    variant = VARIANTS[architecture]
    sizes: dict[str, int] = {}
    for name, value in model_args.items():
        if name in _SIZES:
            sizes[_SIZES[name]] = _size(name, value)
        elif name in _FIXED:
            if value != _FIXED[name]:
                raise ValueError(f"{name} is {value!r}; expected {_FIXED[name]!r}")
        elif name not in _IN_TRAINING:
            raise ValueError(
                f"{name} is unknown; expected one of {', '.join((*_SIZES, *_FIXED, *_IN_TRAINING))}"
            )
    config = dataclasses.replace(variant.config, **sizes)
    if config.patches > MOST_PATCHES:
        raise ValueError(
            f"img_size {config.image_size} has {config.patches} patches of {config.patch_size} "
            f"pixels; expected at most {MOST_PATCHES}"
        )
    return same_blocks(config, architecture) or own_variant(config)


def _size(name: str, value: Any) -> int:
    """A size; timm takes that of images as a pair, too."""
    if name in ("img_size", "patch_size") and isinstance(value, list) and len({*value}) == 1:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return value


def same_blocks(config: CaiTConfig, name: str) -> Variant | None:
    """The variant with the blocks of a configuration, or None.

    Args:
        config: the sizes.
        name: which variant is meant where several differ in the image size alone, and none has
            that of `config`.
    """
    same = [
        variant
        for variant in VARIANTS.values()
        if all(getattr(variant.config, size) == getattr(config, size) for size in _BLOCKS)
    ]
    return min(
        same,
        key=lambda v: (v.config.image_size != config.image_size, v.name != name),
        default=None,
    )


def own_variant(config: CaiTConfig) -> Variant:
    """An architecture of one's own: named after its sizes, without published figures."""
    network = f"cait_{config.sa_blocks}x{config.embed_dim}"
    return Variant(f"{network}_{config.image_size}", config, 0, 0.0, 0.0, 0.0, "")


def is_own(variant: Variant) -> bool:
    """Whether a variant is of no row of the table, at any image size."""
    return same_blocks(variant.config, variant.name) is None


def timm_arguments(variant: Variant) -> dict[str, Any]:
    """The `architecture` of a variant, with the `model_args` of one's own, for `config.json`."""
    if not is_own(variant):
        return {"architecture": variant.name}
    sizes = {name: getattr(variant.config, size) for name, size in _SIZES.items()}
    return {"architecture": _BASE, "model_args": sizes}
