"""A SavedModel in a directory that explains where it looks, run in this process."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from signatures.contract import EXAMPLE_IMAGE_KEY
from signatures.untrained import is_marked_untrained

from ..errors import ServingError
from .maps import Array
from .models import CLASSIFY, SELF_ATTENTION, AttentionError, AttentionModel, Classify, Run, Shapes

if TYPE_CHECKING:
    from ..model_server.servables.servable import SessionServable


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
            _classifier(servable, directory) if CLASSIFY in servable.signatures else None,
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
        outputs = run(CLASSIFY, {"inputs": [example.SerializeToString()]})
        pairs = zip(outputs["classes"][0], outputs["scores"][0], strict=True)
        return [(label.decode(), float(score)) for label, score in pairs]

    return classify


def _shapes(servable: "SessionServable") -> Shapes | None:
    signature = servable.signatures.get(SELF_ATTENTION)
    if signature is None:
        return None
    return {
        name: tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        for name, info in signature.inputs.items()
    }
