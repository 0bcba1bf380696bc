"""Models for the gate to look at: right ones, and what is wrong with others."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

from export.checkpoints.random_weights import random_tensors
from export.compute import DEFAULT, Compute, ComputeDtype
from export.convert import convert
from export.variants import CaiTConfig
from export.weights import mappings
from pipelines.gate.gate import Gate
from pipelines.gate.loaded_model import LoadedModel
from pipelines.gate.prepared_image import PreparedImage, prepare_image
from signatures import BOTH, Head
from tests.support.arrays import Tensors

# Two blocks are enough: GELU's approximation is 3.4 times what the gate allows, as with six.
CONFIG = CaiTConfig(64, 16, 64, 4, 2, num_classes=100)
TENSORS = random_tensors("gate", CONFIG)


def prepared(photo: pathlib.Path, attention: bool, tensors: Tensors = TENSORS) -> PreparedImage:
    return prepare_image(photo.name, photo.read_bytes(), attention, CONFIG, tensors)


def convert_right(
    root: pathlib.Path, heads: Sequence[Head] = BOTH, compute: Compute = DEFAULT
) -> dict[Head, LoadedModel]:
    """Converts `TENSORS`, as the code is at the moment, and loads what was written."""
    directories = {head: root / head for head in heads}
    list(convert("gate", CONFIG, TENSORS, directories, compute=compute))
    return {head: LoadedModel(path, head, CONFIG) for head, path in directories.items()}


def compared(
    model: LoadedModel,
    images: Sequence[PreparedImage],
    labels: Sequence[str] | None = None,
    dtype: ComputeDtype = "float32",
) -> Gate:
    gate = Gate(model, labels, dtype)
    gate.compare(images)
    return gate


def failing(gate: Gate) -> set[tuple[str, str]]:
    return {
        (figure.signature, figure.output) for figure in gate.figures if not figure.within_tolerance
    }


@contextlib.contextmanager
def with_weights(model: LoadedModel, tensors: Tensors) -> Iterator[LoadedModel]:
    """Gives a loaded model of `TENSORS` others, as a wrong conversion would have written them.

    Args:
        model: the model.
        tensors: timm's keys -> arrays; those that are not in it stay.
    """
    variables = {variable.name: variable for variable in model.variables}
    before = {}
    for key, block, mapping in mappings(CONFIG):
        if key in tensors:
            name = "/".join(filter(None, (block, mapping.layer, mapping.attribute)))
            variable = variables[f"{name}:0"]
            before[key] = variable, variable.numpy()
            variable.assign(mapping.convert(tensors[key]))
    assert set(before) == set(tensors)
    try:
        yield model
    finally:
        for variable, value in before.values():
            variable.assign(value)
