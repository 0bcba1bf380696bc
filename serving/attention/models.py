"""Models that explain where they look, wherever they run."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from signatures import TOP_K
from signatures.labels import imagenet_labels

from ..client.calls import TRIES
from .maps import Array, best_classes, class_attention_maps, saliency_map
from .photograph import Photograph

Kind = Literal["away", "loading", "missing", "input", "failed"]

_CLASS_ATTENTION = "bytes_class_attention"
SELF_ATTENTION = "self_attention"
CLASSIFY = "classify"
_OUTPUT = re.compile(r"ca_ffn_block_(\d+)_att")
# The message of `signatures.functions`.
_BLOCKS = re.compile(r"block must be 0 to (\d+)")

Shapes = Mapping[str, tuple[int | None, ...] | None]
Run = Callable[[str, Mapping[str, Any]], Mapping[str, Array]]
Classify = Callable[[bytes], list[tuple[str, float]]]
"""An encoded image -> the labels and probabilities of its best classes, best first."""


class AttentionError(Exception):
    """Why a model cannot answer; the message is one line.

    Attributes:
        kind: "away", no server answers; "loading", the model is still loading; "missing", there is
            no such model; "input", the input is wrong; "failed", the model failed.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class AttentionResult:
    """Where a model looks in one photograph, and its best classes.

    Attributes:
        maps: (H, G, G) float32 for each class-attention block; see `class_attention_maps`.
        saliency: (S, S) float32; see `saliency_map`.
        best: the best labels and their probabilities, best first; None for a feature extractor.
    """

    maps: tuple[Array, ...]
    saliency: Array
    best: list[tuple[str, float]] | None


class AttentionModel:
    """A model, called by its signatures.

    Args:
        name: name of the model in messages.
        version: its version; None for a directory.
        shapes: name -> shape of the inputs of its signature `self_attention`.
        run: runs a signature on inputs and returns its outputs.
        untrained: whether it is marked as one with random weights.
        classify: its signature `classify`; None if it has none.

    Raises:
        AttentionError: the model has no such signature.
    """

    def __init__(
        self,
        name: str,
        version: int | None,
        shapes: Shapes | None,
        run: Run,
        untrained: bool = False,
        classify: Classify | None = None,
    ) -> None:
        shape = (shapes or {}).get("images")
        if shape is None or len(shape) != 4 or shape[1] is None:
            raise AttentionError(
                "missing",
                f"{name}: no signature {SELF_ATTENTION} with images of a fixed size; "
                "expected a model that pipelines.publish has published",
            )
        self.name = name
        self.version = version
        self.untrained = untrained
        self.image_size: int = shape[1]
        self._run = run
        self._classify = classify

    def explain(self, photograph: Photograph) -> AttentionResult:
        """Runs the model on a photograph.

        Raises:
            AttentionError: the model failed.
        """
        outputs = self._run(_CLASS_ATTENTION, {"image_bytes": [photograph.encoded]})
        blocks = sorted(
            (int(match[1]), outputs[name])
            for name in outputs
            if (match := _OUTPUT.fullmatch(name)) is not None
        )
        maps = tuple(class_attention_maps(attention) for _, attention in blocks)
        best = None
        if "logits" in outputs:
            best = self._best(outputs["logits"][0], photograph.encoded)
        return AttentionResult(maps, saliency_map(maps[0], self.image_size), best)

    def _best(self, logits: Array, encoded: bytes) -> list[tuple[str, float]]:
        labels = imagenet_labels()
        best = best_classes(logits, TOP_K)
        if len(logits) == len(labels):
            # A picture has room for the first name of a class.
            return [(labels[number].split(",")[0], probability) for number, probability in best]
        if self._classify is None:
            return [(f"class {number}", probability) for number, probability in best]
        # Only this signature has the names of a model's own classes.
        return [
            (f"class {label}" if label.isdecimal() else label, probability)
            for label, probability in self._classify(encoded)
        ]

    def self_attention(self, photograph: Photograph, block: int) -> Array:
        """The attention (H, N, N) float32 of a self-attention block.

        Raises:
            AttentionError: "input", there is no such block; or the model failed.
        """
        images = {"images": photograph.normalised(), "block": np.array([block], np.int32)}
        for tries in range(1, TRIES + 1):
            try:
                attention: Array = self._run(SELF_ATTENTION, images)["attention"][0]
                return attention
            except AttentionError as error:
                match = _BLOCKS.search(str(error))
                if match is None:
                    raise
                last = int(match[1])
                if not 0 <= block <= last:
                    raise AttentionError("input", f"block {block}: 0 to {last}") from error
                # A server that batches refuses a valid block with an invalid one of another client.
                if tries == TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def self_attention_blocks(self) -> int:
        """The number of self-attention blocks.

        No signature has this number, but the error for an invalid block does. A server that batches
        fails the other requests of the batch too, so call this once and keep the result.

        Raises:
            AttentionError: the model failed for another reason.
        """
        size = self.image_size
        images = {
            "images": np.zeros((1, size, size, 3), np.float32),
            "block": np.array([-1], np.int32),
        }
        try:
            self._run(SELF_ATTENTION, images)
        except AttentionError as error:
            if match := _BLOCKS.search(str(error)):
                return int(match[1]) + 1
            raise
        raise AttentionError("failed", f"{self.name}: it accepted block -1")
