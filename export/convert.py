"""One checkpoint to the SavedModels of its heads."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tf_keras

from signatures import Head

from .compute import ComputeDtype
from .memory import garbage_collector_paused, release_memory
from .model import build_classifier, features_of
from .saved_model.writer import SavedModelWriter
from .variants import CaiTConfig
from .weights import assign_weights

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Converted:
    """A SavedModel that was written.

    Attributes:
        head: which model it is.
        directory: where it is.
        parameters: number of its parameters.
        seconds: by step. `build` and `assign` are shared by the heads, and counted at the first.
    """

    head: Head
    directory: pathlib.Path
    parameters: int
    seconds: dict[str, float]


def convert(
    name: str,
    config: CaiTConfig,
    tensors: Mapping[str, Array],
    directories: Mapping[Head, pathlib.Path],
    labels: Sequence[str] | None = None,
    trained: bool = True,
    dtype: ComputeDtype = "float32",
) -> Iterator[Converted]:
    """Builds a model once and writes it once for each head.

    Args:
        name: the classifier's name; the feature extractor's is `<name>_fe`.
        config: what to build.
        tensors: timm's keys -> arrays in timm's layout.
        directories: which heads to write, and the new directory of each.
        labels: names of the classes, for the `classify` signature.
        trained: False for weights made by rule, so that the models say so.
        dtype: what the signatures' products are computed in.

    Raises:
        CheckpointError: the tensors do not fit the configuration. Nothing is written.
    """
    # Keras numbers layers by a count that goes on within a process: without this, a layer's name
    # would depend on what was converted before.
    tf_keras.backend.clear_session()
    try:
        yield from _convert(name, config, tensors, directories, labels, trained, dtype)
    finally:
        # Keras keeps the last model built, in cycles: up to 1.4 GB that the next step has need of.
        tf_keras.backend.clear_session()
        release_memory()


def _convert(
    name: str,
    config: CaiTConfig,
    tensors: Mapping[str, Array],
    directories: Mapping[Head, pathlib.Path],
    labels: Sequence[str] | None,
    trained: bool,
    dtype: ComputeDtype,
) -> Iterator[Converted]:
    started = time.perf_counter()
    with garbage_collector_paused():
        classifier = build_classifier(config, name)
    built = time.perf_counter()
    assign_weights(classifier, config, tensors)
    seconds = {"build": built - started, "assign": time.perf_counter() - built}
    writer = None
    for head, directory in directories.items():
        started = time.perf_counter()
        with garbage_collector_paused():
            writer = writer or SavedModelWriter(classifier, config, labels, trained, dtype)
            model = classifier if head == "classifier" else features_of(classifier, f"{name}_fe")
            writer.write(model, head, directory)
        seconds["write"] = time.perf_counter() - started
        yield Converted(head, directory, model.count_params(), seconds)
        seconds = {}
