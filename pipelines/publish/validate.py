"""Validation of a variant's models on one shard of the sample."""

import concurrent.futures
import pathlib
import time
from collections.abc import Sequence

from export.reference.preprocessing import UndecodableImageError
from signatures.labels import default_labels

from ..data.shards import SampleImage, read_shard
from ..elements import Shard, ShardResult, StagedModel
from ..gate.gate import Gate
from ..gate.prepared_image import PreparedImage, prepare_image


class PreparedShard:
    """A shard's images with the reference's outputs, for the models of one variant.

    Args:
        staged: any of the variant's models.
        shard: the file.
    """

    def __init__(self, staged: StagedModel, shard: Shard) -> None:
        started = time.perf_counter()
        config, tensors = staged.config, staged.checkpoint.tensors()

        def prepare(image: SampleImage) -> PreparedImage | str:
            attention = image.number in shard.attention
            try:
                return prepare_image(
                    image.name, image.encoded, attention, config, tensors, image.label
                )
            except UndecodableImageError as error:
                return f"{image.name}: {error.reason}"

        # Two images at a time, with a core each.
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            prepared = list(executor.map(prepare, read_shard(shard.path)))
        self._measures = shard.measure
        # In the order in which the gate needs fewest runs.
        images = [image for image in prepared if isinstance(image, PreparedImage)]
        self._images = sorted(images, key=lambda image: image.attention)
        self._bad = tuple(reason for reason in prepared if isinstance(reason, str))
        # Of the model that is compared first; the others have the reference for nothing.
        self._seconds = {"reference": time.perf_counter() - started}

    def compare(self, staged: StagedModel, labels: Sequence[str] | None = None) -> ShardResult:
        """Runs the gate on one of the variant's models.

        Args:
            staged: the model.
            labels: names of its classes; None for the default ones.

        Raises:
            GateError: it can't be compared at all.
        """
        started = time.perf_counter()
        gate = Gate(
            pathlib.Path(staged.path),
            staged.head,
            staged.config,
            labels or default_labels(staged.config.num_classes),
            staged.checkpoint.trained,
            staged.compute_dtype,
        )
        loaded = time.perf_counter()
        for image in self._images:
            gate.compare(image)
        compared = time.perf_counter()
        seconds = {**self._seconds, "load": loaded - started, "compare": compared - loaded}
        self._seconds = {}
        measured = None
        if self._measures:
            measured = gate.measure(staged.model, self._images)
            seconds["measure"] = time.perf_counter() - compared
        return ShardResult(
            gate.figures,
            len(self._images),
            sum(image.attention for image in self._images),
            self._bad,
            seconds,
            measured,
            gate.labelled,
            gate.correct,
        )
