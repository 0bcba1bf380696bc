"""Tables of what was measured round by round, and what the ratios may be."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from export import get_variant

from .interleaved import Rounds
from .table import Result, as_markdown, narrow_instructions

Key = tuple[str, int]
"""A variant, and a batch size or a number of clients at a time."""

GEMM_SIZE = 2048
"""Rows and columns of the matrices whose product's rate is the limit."""

LIMIT = "matrix-multiply limit"
LOGITS = "`logits`"
ONE_THREAD = "one thread an operation"
SELF_ATTENTION = tuple(f"self_attention, {block} block" for block in ("first", "middle", "last"))
NARROW = f"{LOGITS}, bfloat16"
THROUGHPUT = "for throughput"
OPENVINO = "OpenVINO"
OPENVINO_DEFAULT = "OpenVINO, its default"
COLUMNS = (
    LIMIT,
    LOGITS,
    f"{LOGITS}, {ONE_THREAD}",
    f"{LOGITS}, XLA",
    NARROW,
    f"{NARROW}, {ONE_THREAD}",
    f"{LOGITS}, {THROUGHPUT}",
    f"{NARROW}, {THROUGHPUT}",
    "class_attention",
    *SELF_ATTENTION,
    "plain port",
    "timm eager",
    "ONNX Runtime",
    OPENVINO,
    OPENVINO_DEFAULT,
)


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a ratio may be.

    Attributes:
        above: the column that is divided.
        below: the column that it is divided by.
        most: a key -> what it is one of, in words, and the greatest ratio of these; None where
            nothing is bound.
        narrow: whether it only counts on a processor that has instructions for bfloat16.
    """

    above: str
    below: str
    most: Callable[[Key], tuple[str, float] | None]
    narrow: bool = False

    @property
    def name(self) -> str:
        """The ratio, for people."""
        return f"{self.above} / {self.below}"


_Most = Callable[[Key], tuple[str, float] | None]


def _always(most: float) -> _Most:
    return lambda _: ("", most)


def _by_size(at_224: float, larger: float) -> _Most:
    def most(key: Key) -> tuple[str, float]:
        small = get_variant(key[0]).config.image_size <= 224
        return (", 224", at_224) if small else (", 384 and above", larger)

    return most


def _several(most: float) -> _Most:
    return lambda key: None if key[1] < 4 else ("", most)


def _under_load(wide: float, narrow: float | None) -> _Most:
    """Of four clients and more: of the S and M variants, and of XXS and XS."""

    def most(key: Key) -> tuple[str, float] | None:
        variant, clients = key
        if clients < 4:
            return None
        if get_variant(variant).config.embed_dim >= 384:
            return ", S and M", wide
        return None if narrow is None else (", XXS and XS", narrow)

    return most


BOUNDS = (
    Bound(LOGITS, "plain port", _always(0.55)),
    Bound(LOGITS, "timm eager", _always(0.75)),
    Bound(LOGITS, "ONNX Runtime", _always(0.85)),
    Bound(LOGITS, OPENVINO, _by_size(1.3, 1.0)),
    Bound(f"{LOGITS}, {ONE_THREAD}", OPENVINO, _by_size(1.1, 1.0)),
    Bound(NARROW, OPENVINO_DEFAULT, _by_size(1.25, 1.0), narrow=True),
    Bound(f"{NARROW}, {ONE_THREAD}", OPENVINO_DEFAULT, _by_size(1.25, 1.0), narrow=True),
    Bound(f"{LOGITS}, XLA", OPENVINO, _by_size(0.9, 0.6)),
    Bound(f"{LOGITS}, XLA", LIMIT, _always(1.6)),
    Bound(f"{LOGITS}, {ONE_THREAD}", LOGITS, _always(1.0)),
    Bound(NARROW, LOGITS, _always(1.0)),
    Bound("class_attention", LOGITS, _always(1.02)),
    *(Bound(column, LOGITS, _always(1.15)) for column in SELF_ATTENTION),
)
"""Of the milliseconds of a batch."""

LOAD_BOUNDS = (
    Bound(f"{LOGITS}, {THROUGHPUT}", OPENVINO, _always(1.0)),
    Bound(
        f"{NARROW}, {THROUGHPUT}",
        OPENVINO_DEFAULT,
        _under_load(1.0, round(1 / 0.95, 2)),
        narrow=True,
    ),
    Bound(
        f"{NARROW}, {THROUGHPUT}", f"{LOGITS}, {THROUGHPUT}", _under_load(0.5, None), narrow=True
    ),
    Bound(f"{LOGITS}, {THROUGHPUT}", f"{LOGITS}, {ONE_THREAD}", _several(1.0)),
)
"""Of the milliseconds that pass for an image under load."""


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


def times(found: Mapping[Key, Rounds], size: str = "batch") -> str:
    """Markdown: milliseconds by variant, size and column; medians.

    Args:
        found: what was measured.
        size: what the number in a key is.
    """
    columns = [c for c in COLUMNS if any(rounds.get(c) for rounds in found.values())]
    rows = [
        [variant, str(number), *(_milliseconds(rounds.get(column)) for column in columns)]
        for (variant, number), rounds in found.items()
    ]
    return as_markdown(["model", size, *columns], rows)


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if not seconds:
        return ""
    median = 1000 * statistics.median(seconds)
    return f"{median:.0f}" if median >= 100 else f"{median:.1f}"


def ratios(
    found: Mapping[Key, Rounds], bounds: Sequence[Bound] = BOUNDS, size: str = "batch"
) -> str:
    """Markdown: every ratio that has a bound, by variant and size."""
    shown = [b for b in bounds if any(ratio(rounds, b) for rounds in found.values())]
    rows = [
        [variant, str(number), *(_cell((variant, number), rounds, bound) for bound in shown)]
        for (variant, number), rounds in found.items()
    ]
    return as_markdown(["model", size, *(bound.name for bound in shown)], rows)


def _cell(key: Key, rounds: Rounds, bound: Bound) -> str:
    value = ratio(rounds, bound)
    if value is None:
        return ""
    most = bound.most(key)
    bold = most is not None and value > most[1] and (not bound.narrow or narrow_instructions())
    return f"**{value:.2f}**" if bold else f"{value:.2f}"


def bounds_table(
    found: Mapping[Key, Rounds], bounds: Sequence[Bound] = BOUNDS, size: str = "batch"
) -> list[Result]:
    """A line for each bound, with the model that comes nearest to it or misses it most."""
    results = []
    for bound in bounds:
        if bound.narrow and not narrow_instructions():
            continue
        groups: dict[tuple[str, float], dict[Key, float]] = {}
        for key, rounds in found.items():
            value, most = ratio(rounds, bound), bound.most(key)
            if value is not None and most is not None:
                groups.setdefault(most, {})[key] = value
        for (words, largest), values in sorted(groups.items(), key=lambda group: group[0][1]):
            (variant, number), worst = max(values.items(), key=lambda item: item[1])
            results.append(
                Result(
                    f"{bound.name}{words}, worst of {len(values)}",
                    f"{worst:.3f} ({variant}, {size} {number})",
                    f"{largest:.2f}",
                    worst <= largest,
                )
            )
    return results
