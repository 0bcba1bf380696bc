"""Models that explain where they look: one of a server, or a SavedModel in a directory."""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from signatures import TOP_K
from signatures.contract import EXAMPLE_IMAGE_KEY
from signatures.labels import imagenet_labels
from signatures.untrained import is_marked_untrained

from ..client import Client, ClientError
from ..client.calls import TRIES
from ..errors import Code, ServingError
from .maps import Array, best_classes, class_attention_maps, saliency_map
from .photograph import Photograph

if TYPE_CHECKING:
    from ..model_server.servables.servable import SessionServable

Kind = Literal["away", "loading", "missing", "input", "failed"]

_WAITING = ("START", "LOADING", "UNKNOWN")
_CLASS_ATTENTION = "bytes_class_attention"
_SELF_ATTENTION = "self_attention"
_CLASSIFY = "classify"
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
                f"{name}: no signature {_SELF_ATTENTION} with images of a fixed size; "
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
                attention: Array = self._run(_SELF_ATTENTION, images)["attention"][0]
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
            self._run(_SELF_ATTENTION, images)
        except AttentionError as error:
            if match := _BLOCKS.search(str(error)):
                return int(match[1]) + 1
            raise
        raise AttentionError("failed", f"{self.name}: it accepted block -1")


@contextlib.contextmanager
def served_model(
    server: str, model: str, version: int | None = None, timeout: float = 300.0
) -> Iterator[AttentionModel]:
    """A model of a server. All calls go to the version that answers the first call.

    Raises:
        AttentionError: the server is away, or the model is missing or has other signatures.
    """
    with Client(server, model, version=version, timeout=timeout, retries=False) as client:
        try:
            metadata = client.metadata()
        except ClientError as error:
            raise _attention_error(error, client, version) from error
    with Client(server, model, version=metadata.version, timeout=timeout) as client:

        def run(signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Array]:
            try:
                return client.predict(inputs, signature)
            except ClientError as error:
                raise _attention_error(error, client, metadata.version) from error

        signature = metadata.signatures.get(_SELF_ATTENTION)
        shapes = (
            {name: tensor.shape for name, tensor in signature.inputs.items()}
            if signature is not None
            else None
        )

        def classify(encoded: bytes) -> list[tuple[str, float]]:
            try:
                (best,) = client.classify(encoded)
            except ClientError as error:
                raise _attention_error(error, client, metadata.version) from error
            return [(label.label, label.probability) for label in best]

        yield AttentionModel(
            model,
            metadata.version,
            shapes,
            run,
            metadata.untrained,
            classify if _CLASSIFY in metadata.signatures else None,
        )


@contextlib.contextmanager
def loaded_model(directory: pathlib.Path) -> Iterator[AttentionModel]:
    """A SavedModel in a version's directory, run in this process.

    Raises:
        AttentionError: it cannot be loaded, or has other signatures.
    """
    from ..model_server.servables.servable import SessionSettings, load_servable

    try:
        servable = load_servable(directory, SessionSettings())
    except ServingError as error:
        raise AttentionError("missing", f"{directory}: {error.message}") from error
    try:
        yield AttentionModel(
            str(directory),
            None,
            _shapes(servable),
            _runner(servable, directory),
            is_marked_untrained(servable.signatures),
            _classifier(servable, directory) if _CLASSIFY in servable.signatures else None,
        )
    finally:
        servable.close()


def _runner(servable: "SessionServable", directory: pathlib.Path) -> Run:
    def run(signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Array]:
        definition = servable.signatures[signature]
        feeds = {
            definition.inputs[name].name: value
            if isinstance(value, np.ndarray)
            else np.array(value, object)
            for name, value in inputs.items()
        }
        names = sorted(definition.outputs)
        try:
            values = servable.run(feeds, [definition.outputs[name].name for name in names])
        except ServingError as error:
            raise AttentionError("failed", f"{directory}: {error.message}") from error
        return dict(zip(names, values, strict=True))

    return run


def _classifier(servable: "SessionServable", directory: pathlib.Path) -> Classify:
    from tensorflow.core.example import example_pb2

    run = _runner(servable, directory)

    def classify(encoded: bytes) -> list[tuple[str, float]]:
        example = example_pb2.Example()
        example.features.feature[EXAMPLE_IMAGE_KEY].bytes_list.value.append(encoded)
        outputs = run(_CLASSIFY, {"inputs": [example.SerializeToString()]})
        pairs = zip(outputs["classes"][0], outputs["scores"][0], strict=True)
        return [(label.decode(), float(score)) for label, score in pairs]

    return classify


def _shapes(servable: "SessionServable") -> Shapes | None:
    signature = servable.signatures.get(_SELF_ATTENTION)
    if signature is None:
        return None
    return {
        name: tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        for name, info in signature.inputs.items()
    }


def _attention_error(error: ClientError, client: Client, version: int | None) -> AttentionError:
    """The error of a failed call as an AttentionError."""
    named = error.model if version is None else f"{error.model} version {version}"
    if error.code == Code.UNAVAILABLE:
        return AttentionError(
            "away", f"{error.server}: no model server answers there ({error.message})"
        )
    if error.code == Code.DEADLINE_EXCEEDED:
        return AttentionError("failed", f"{error.server}: {named} did not answer in time")
    if error.code != Code.NOT_FOUND:
        return AttentionError("failed", f"{error.server}, {named}: {error.message}")
    try:
        states = {entry.version: entry.state for entry in client.status()}
    except ClientError:
        states = {}
    if any(state in _WAITING for number, state in states.items() if version in (None, number)):
        return AttentionError("loading", f"{error.server} is still loading {named}; try again soon")
    return AttentionError("missing", f"{error.server} serves no {named}: {error.message}")
