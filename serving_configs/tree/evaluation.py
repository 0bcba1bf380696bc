"""Accuracies that were measured of published versions, where `pipelines.evaluate` left them."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError


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
    """What was measured of a version.

    Attributes:
        images: images that it was measured on.
        top1: accuracy.
        top5: accuracy among five classes.
    """

    images: int
    top1: Proportion
    top5: Proportion


def evaluation_path(publish_to: str) -> pathlib.Path:
    """Where the results are, unless the evaluation was told otherwise."""
    return pathlib.Path(publish_to) / "evaluation" / "evaluation.json"


def read_evaluations(publish_to: str) -> dict[tuple[str, int], Evaluation]:
    """(model, version) -> what was measured of it; empty without an evaluation.

    Raises:
        ConfigError: the file is there and cannot be read.
    """
    path = evaluation_path(publish_to)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            (entry["model"], entry["version"]): Evaluation(
                entry["images"], _proportion(entry["top1"]), _proportion(entry["top5"])
            )
            for entry in content["models"]
            if entry["top1"]["percent"] is not None
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: {type(error).__name__}: {error}; expected the results of pipelines.evaluate"
        ) from None


def _proportion(figures: Mapping[str, Any]) -> Proportion:
    return Proportion(figures["percent"], figures["low"], figures["high"])
