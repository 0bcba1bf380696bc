"""Tables of what was measured round by round, and what the ratios may be."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from export import get_variant

from .interleaved import Rounds
from .table import Result, as_markdown

Key = tuple[str, int]
"""A variant and a batch size."""

GEMM_SIZE = 2048
"""Rows and columns of the matrices whose product's rate is the limit."""

LIMIT = "matrix-multiply limit"
LOGITS = "`logits`"
ONE_THREAD = "one thread an operation"
SELF_ATTENTION = tuple(f"self_attention, {block} block" for block in ("first", "middle", "last"))
COLUMNS = (
    LIMIT,
    LOGITS,
    f"{LOGITS}, {ONE_THREAD}",
    f"{LOGITS}, XLA",
    f"{LOGITS}, bfloat16",
    "class_attention",
    *SELF_ATTENTION,
    "plain port",
    "timm eager",
    "ONNX Runtime",
    "OpenVINO",
)


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a ratio may be.

    Attributes:
        above: the column that is divided.
        below: the column that it is divided by.
        most: side of the images -> the greatest ratio.
    """

    above: str
    below: str
    most: Callable[[int], float]

    @property
    def name(self) -> str:
        """The ratio, for people."""
        return f"{self.above} / {self.below}"


def _always(most: float) -> Callable[[int], float]:
    return lambda _: most


def _by_size(at_224: float, larger: float) -> Callable[[int], float]:
    return lambda size: at_224 if size <= 224 else larger


BOUNDS = (
    Bound(LOGITS, "plain port", _always(0.55)),
    Bound(LOGITS, "timm eager", _always(0.75)),
    Bound(LOGITS, "ONNX Runtime", _always(0.85)),
    Bound(LOGITS, "OpenVINO", _by_size(1.3, 1.0)),
    Bound(f"{LOGITS}, XLA", "OpenVINO", _by_size(0.9, 0.6)),
    Bound(f"{LOGITS}, XLA", LIMIT, _always(1.6)),
    Bound(f"{LOGITS}, {ONE_THREAD}", LOGITS, _always(1.0)),
    Bound(f"{LOGITS}, bfloat16", LOGITS, _always(1.0)),
    Bound("class_attention", LOGITS, _always(1.02)),
    *(Bound(column, LOGITS, _always(1.15)) for column in SELF_ATTENTION),
)


def with_limit(rounds: Rounds, flops_g: float, batch: int) -> Rounds:
    """Adds the limit of every round: the better library's rate is the machine's.

    Args:
        rounds: what was measured, with products of square matrices of `GEMM_SIZE`.
        flops_g: multiply-adds of one image in units of 1e9.
        batch: images.
    """
    products = zip(*(s for column, s in rounds.items() if column.startswith("gemm ")), strict=True)
    share = flops_g * 1e9 * batch / GEMM_SIZE**3
    return {**rounds, LIMIT: [share * min(seconds) for seconds in products]}


def ratio(rounds: Rounds, bound: Bound) -> float | None:
    """The median of the rounds' ratios; None where one of the two was not measured."""
    above, below = rounds.get(bound.above), rounds.get(bound.below)
    if not above or not below:
        return None
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def times(found: Mapping[Key, Rounds]) -> str:
    """Markdown: milliseconds by variant, batch and column; medians."""
    columns = [c for c in COLUMNS if any(rounds.get(c) for rounds in found.values())]
    rows = [
        [variant, str(batch), *(_milliseconds(rounds.get(column)) for column in columns)]
        for (variant, batch), rounds in found.items()
    ]
    return as_markdown(["model", "batch", *columns], rows)


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if not seconds:
        return ""
    median = 1000 * statistics.median(seconds)
    return f"{median:.0f}" if median >= 100 else f"{median:.1f}"


def ratios(found: Mapping[Key, Rounds]) -> str:
    """Markdown: every ratio that has a bound, by variant and batch."""
    bounds = [b for b in BOUNDS if any(ratio(rounds, b) for rounds in found.values())]
    rows = [
        [variant, str(batch), *(_cell(variant, rounds, bound) for bound in bounds)]
        for (variant, batch), rounds in found.items()
    ]
    return as_markdown(["model", "batch", *(bound.name for bound in bounds)], rows)


def _cell(variant: str, rounds: Rounds, bound: Bound) -> str:
    value = ratio(rounds, bound)
    if value is None:
        return ""
    most = bound.most(get_variant(variant).config.image_size)
    return f"{value:.2f}" if value <= most else f"**{value:.2f}**"


def bounds_table(found: Mapping[Key, Rounds]) -> list[Result]:
    """A line for each bound, with the model that comes nearest to it or misses it most."""
    results = []
    for bound in BOUNDS:
        sizes = {bound.most(224), bound.most(384)}
        by_most: dict[float, dict[Key, float]] = {}
        for (variant, batch), rounds in found.items():
            value = ratio(rounds, bound)
            if value is not None:
                most = bound.most(get_variant(variant).config.image_size)
                by_most.setdefault(most, {})[variant, batch] = value
        for most, values in sorted(by_most.items()):
            (variant, batch), worst = max(values.items(), key=lambda item: item[1])
            size = get_variant(variant).config.image_size
            of = "" if len(sizes) == 1 else f", {'224' if size <= 224 else '384 and above'}"
            results.append(
                Result(
                    f"{bound.name}{of}, worst of {len(values)}",
                    f"{worst:.3f} ({variant}, batch {batch})",
                    f"{most:.2f}",
                    worst <= most,
                )
            )
    return results
