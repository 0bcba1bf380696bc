"""Converting a checkpoint to a SavedModel for each head."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

import tf_keras

from signatures import Head

from .compute import DEFAULT, Compute
from .memory import garbage_collector_paused, release_memory
from .model import build_classifier, features_of
from .positions import with_positions_for
from .saved_model.writer import SavedModelWriter
from .variants import CaiTConfig
from .weights import Array, assign_weights


@dataclasses.dataclass(frozen=True)
class Converted:
    """A SavedModel on the disk.

    Attributes:
        head: the model's head.
        directory: its path.
        parameters: number of parameters.
        seconds: step -> its duration. The first head has those of `build` and `assign`, which the
            heads share.
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
    compute: Compute = DEFAULT,
) -> Iterator[Converted]:
    """Builds a model once and writes it once for each head.

    Args:
        name: the classifier's name; the feature extractor's is `<name>_fe`.
        config: the model's sizes; without classes there is no classifier to write.
        tensors: timm's keys -> arrays in timm's layout. Positions of another image size are
            resampled.
        directories: the heads to write -> the new directory of each.
        labels: names of the classes, for the `classify` signature.
        trained: False marks the models as untrained, for random weights.
        compute: how the signatures compute.

    Raises:
        CheckpointError: the tensors do not fit the configuration. Nothing is written.
    """
    # Keras numbers layers with a counter of the process: without this, a layer's name would depend
    # on earlier conversions.
    tf_keras.backend.clear_session()
    try:
        yield from _convert(name, config, tensors, directories, labels, trained, compute)
    finally:
        # Keras keeps the last model, in reference cycles: up to 1.4 GB that the next step needs.
        tf_keras.backend.clear_session()
        release_memory()


def _convert(
    name: str,
    config: CaiTConfig,
    tensors: Mapping[str, Array],
    directories: Mapping[Head, pathlib.Path],
    labels: Sequence[str] | None,
    trained: bool,
    compute: Compute,
) -> Iterator[Converted]:
    started = time.perf_counter()
    with garbage_collector_paused():
        classifier = build_classifier(config, name, initial=False)
    built = time.perf_counter()
    assign_weights(classifier, config, with_positions_for(config, tensors))
    seconds = {"build": built - started, "assign": time.perf_counter() - built}
    writer = None
    for head, directory in directories.items():
        started = time.perf_counter()
        with garbage_collector_paused():
            writer = writer or SavedModelWriter(classifier, config, labels, trained, compute)
            model = classifier if head == "classifier" else features_of(classifier, f"{name}_fe")
            writer.write(model, head, directory)
        seconds["write"] = time.perf_counter() - started
        yield Converted(head, directory, model.count_params(), seconds)
        seconds = {}
