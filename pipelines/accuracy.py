"""What a count of right answers says of a model's accuracy."""

import dataclasses

import scipy.stats

CONFIDENCE = 0.95
INTERVAL = "Clopper-Pearson"
"""The exact interval: it holds the true accuracy at least as often as `CONFIDENCE` says."""

CONSISTENT_P = 0.001
"""A count that is less probable than this, under the published accuracy, contradicts it."""


@dataclasses.dataclass(frozen=True)
class Proportion:
    """Right answers out of all, in percent, with the interval of confidence.

    Attributes:
        percent: the share of right answers.
        low: the interval's lower end.
        high: its upper end.
    """

    percent: float
    low: float
    high: float


def proportion(correct: int, images: int) -> Proportion | None:
    """The accuracy that was measured; None when there were no images."""
    if not images:
        return None
    interval = scipy.stats.binomtest(correct, images).proportion_ci(CONFIDENCE, method="exact")
    return Proportion(100 * correct / images, 100 * interval.low, 100 * interval.high)


def contradiction(correct: int, images: int, published: float) -> str | None:
    """Says how a count contradicts the published accuracy, by the exact binomial test.

    Args:
        correct: right answers.
        images: all answers, at least one.
        published: accuracy in percent.

    Returns:
        One line, or None when the count is consistent with it.
    """
    p = float(scipy.stats.binomtest(correct, images, published / 100).pvalue)
    if p >= CONSISTENT_P:
        return None
    return (
        f"top-1 is right on {correct} of {images} images; the published {published:.3f} % is "
        f"{images * published / 100:.1f} of them (p = {p:.2g}; at least {CONSISTENT_P} is expected)"
    )
