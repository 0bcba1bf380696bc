"""How the validation of a variant is divided among workers."""

import dataclasses
from collections.abc import Sequence

from export.variants import Variant

from ..elements import Shard

PART_GIGAFLOPS = 9000.0
"""Multiply-adds of the served models that a part of the validation takes, in thousands of millions.

An image costs the gate about five times what it costs a server: two models and the reference, which
uses one core. On two cores that serve 80 of these a second a part is about ten minutes, beside the
minute that it takes to load the models again.
"""

_AROUND = 200.0
"""What loading models and optimising their graphs takes beside a part's images, in the same unit:
fitted to a run of all ten variants, of which cait_xxs24_224 took 35 s and cait_m48_448 444 s."""


def parts_for(variant: Variant, shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """The parts of the sample that workers compare a variant's models on.

    Shards of few images stay whole. One part is enough to measure a model: the first.

    Args:
        variant: the variant.
        shards: the sample.
    """
    # A variant of the user's own has no published cost.
    images = max(2, int(PART_GIGAFLOPS / max(variant.flops_g, 1.0)))
    parts = [part for shard in shards for part in shard.split(images)]
    return tuple(dataclasses.replace(part, measure=not i, number=i) for i, part in enumerate(parts))


def cost_of(variant: Variant, part: Shard) -> float:
    """How long a part of a variant's validation takes, in the unit of `PART_GIGAFLOPS`."""
    return _AROUND + variant.flops_g * part.images
