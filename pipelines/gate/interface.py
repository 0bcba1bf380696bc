"""What a SavedModel has to have before the gate compares what it computes."""

import pathlib
from typing import Any

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from export.variants import CaiTConfig
from export.weights import expected_shapes
from serving_configs.tree.paths import SAVED_MODEL
from signatures import Head
from signatures.inspection import contract_problems
from signatures.untrained import is_marked_untrained


class GateError(Exception):
    """A model can't be compared at all. The message says what is wrong with it."""


def check_interface(directory: pathlib.Path, head: Head, config: CaiTConfig, trained: bool) -> None:
    """Reads the file's signatures.

    Args:
        directory: the SavedModel.
        head: which model it is to be.
        config: what it was built from.
        trained: whether the weights were.

    Raises:
        GateError: it cannot be read, its signatures are not those of the contract, or it is marked
            as untrained when its weights were trained, or the other way round.
    """
    path = directory / SAVED_MODEL
    try:
        proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except Exception as error:  # DecodeError, whose module depends on protobuf's backend.
        raise GateError(f"{path} cannot be read ({error})") from error
    signature_defs = proto.meta_graphs[0].signature_def
    problems = contract_problems(signature_defs, head, config.geometry)
    if problems:
        raise GateError("signatures are not as the contract says: " + "; ".join(problems))
    if is_marked_untrained(signature_defs) == trained:
        words = ("not marked", "were not") if not trained else ("marked", "were")
        raise GateError(
            f"the SavedModel is {words[0]} as untrained; its weights {words[1]} trained"
        )


def check_parameters(model: Any, head: Head, config: CaiTConfig) -> None:
    """Counts a loaded model's parameters.

    Raises:
        GateError: they are not as many as the checkpoint's.
    """
    shapes = expected_shapes(config)
    expected = sum(
        int(np.prod(shape))
        for key, shape in shapes.items()
        if head == "classifier" or not key.startswith("head.")
    )
    found = sum(int(np.prod(variable.shape)) for variable in model.variables)
    if found != expected:
        raise GateError(f"the SavedModel has {found} parameters; expected {expected}")
