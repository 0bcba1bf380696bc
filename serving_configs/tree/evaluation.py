"""Measured accuracies of published versions, written by `pipelines.evaluate`."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .paths import EVALUATION


@dataclasses.dataclass(frozen=True)
class Proportion:
    """Right answers out of all, in percent, with the interval of confidence.

    Attributes:
        percent: the proportion of right answers.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    percent: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The measured accuracy of a version.

    Attributes:
        images: number of images.
        top1: top-1 accuracy.
        top5: top-5 accuracy; None of a model of at most five classes.
    """

    images: int
    top1: Proportion
    top5: Proportion | None


def evaluation_path(publish_to: str) -> pathlib.Path:
    """The path of the results, unless the evaluation wrote them elsewhere."""
    return pathlib.Path(publish_to) / EVALUATION


def read_evaluations(publish_to: str) -> dict[tuple[str, int], Evaluation]:
    """(model, version) -> its evaluation; empty without a file of results.

    Raises:
        ConfigError: the file exists and cannot be read.
    """
    path = evaluation_path(publish_to)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            (entry["model"], entry["version"]): Evaluation(
                entry["images"], top1, _proportion(entry["top5"])
            )
            for entry in content["models"]
            if (top1 := _proportion(entry["top1"])) is not None
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: {type(error).__name__}: {error}; expected the results of pipelines.evaluate"
        ) from None


def _proportion(figures: Mapping[str, Any]) -> Proportion | None:
    if figures["percent"] is None:
        return None
    return Proportion(figures["percent"], figures["low"], figures["high"])
