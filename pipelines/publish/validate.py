"""Validation of a variant's models on one shard of the sample."""

import concurrent.futures
import dataclasses
import itertools
import json
import pathlib
import time
from collections import ChainMap
from collections.abc import Callable

from export.errors import one_line
from export.memory import release_memory
from export.reference.positions import resample
from export.reference.preprocessing import UndecodableImageError
from signatures.program import disk_full

from ..data.checkpoints import on_this_worker
from ..data.shards import SampleImage, read_shard
from ..elements import Shard, ShardResult, StagedModel, StagedVariant
from ..gate.gate import Gate
from ..gate.loaded_model import LoadedModel
from ..gate.prepared_image import PreparedImage, prepare_image
from ..runtime.progress import ImageCounter, Step
from .context import PublishContext

_KEPT_BYTES = 300 << 20
"""Those of the M variants are loaded again for every shard: two of the largest take 2.8 GB."""


class LoadedModels:
    """The models of the variant that was validated last.

    Its next shard finds them loaded, their graphs optimised by TensorFlow.
    """

    def __init__(self) -> None:
        self._models: dict[str, LoadedModel] = {}

    def of(self, staged: StagedModel, directory: pathlib.Path) -> LoadedModel:
        """A model, loaded when it was not kept.

        Args:
            staged: which.
            directory: its SavedModel, on this worker's disk.

        Raises:
            GateError: it can't be loaded, or is not what the checkpoint makes.
        """
        if (kept := self._models.get(staged.path)) is not None:
            return kept
        loaded = LoadedModel(directory, staged.head, staged.config, staged.checkpoint.trained)
        # Constants take gigabytes with a model's graphs.
        if 4 * staged.parameters <= _KEPT_BYTES and staged.compute.profile == "latency":
            self._models[staged.path] = loaded
        return loaded

    def keep_only(self, staged: StagedVariant) -> None:
        """Lets go of the models of all other variants."""
        paths = {model.path for model in staged.models}
        self._models = {path: model for path, model in self._models.items() if path in paths}


def validate_variant(
    staged: StagedVariant, shard: Shard, context: PublishContext, loaded: LoadedModels
) -> tuple[ShardResult, ...]:
    """Runs the gate on every model of a variant: the reference computes once for all of them.

    Finds what an earlier attempt of the run has kept.

    Args:
        staged: the variant.
        shard: the file, or a part of it.
        context: the run.
        loaded: models that this worker has loaded already.

    Returns:
        A result for each model, in their order. A model that cannot be compared has its error.
    """
    kept = f"results/{staged.name}/{shard.number}.json"
    if (found := context.staging.read(kept)) is not None:
        return tuple(map(ShardResult.from_json, json.loads(found)))
    results = _compare_all(staged, shard, context, loaded)
    if not any(result.error for result in results):
        content = json.dumps([dataclasses.asdict(result) for result in results])
        context.staging.write(kept, content.encode())
    return results


def _compare_all(
    staged: StagedVariant, shard: Shard, context: PublishContext, loaded: LoadedModels
) -> tuple[ShardResult, ...]:
    loaded.keep_only(staged)
    prepared: PreparedShard | None = None
    results = []
    for model in staged.models:
        step = Step("validate", model.model, shard.name, 0.0, all_images=shard.images)
        count = ImageCounter(context.staging, step)
        result = ShardResult()
        # The error of a failed conversion is in the model already.
        if not model.error:
            try:
                if prepared is None:
                    prepared = PreparedShard(model, shard)
                directory = context.staging.fetch(model.path, model.files)
                result = prepared.compare(model, loaded, directory, count)
            except Exception as error:
                if disk_full(error):
                    raise  # No other model has more room.
                result = ShardResult(error=one_line(error))
            # What this model took would stay beside the next one.
            release_memory()
        results.append(result)
        count.finish()
    return tuple(results)


class PreparedShard:
    """A shard's images with the reference's outputs, for the models of one variant.

    Args:
        staged: any of the variant's models.
        shard: the file.
    """

    def __init__(self, staged: StagedModel, shard: Shard) -> None:
        started = time.perf_counter()
        config = staged.config
        read = on_this_worker(staged.checkpoint, staged.variant).tensors()
        side = config.image_size // config.patch_size
        # Resampled here by code that the model's were not resampled with.
        positions = resample(read["pos_embed"], side)
        tensors = ChainMap({"pos_embed": positions}, read)  # type: ignore[arg-type]

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
            records = read_shard(shard.path, shard.first_label, shard.stamp)
            ours = itertools.islice(records, shard.first, shard.first + shard.images)
            prepared = list(executor.map(prepare, ours))
        self._measures = shard.measure
        self._images = [image for image in prepared if isinstance(image, PreparedImage)]
        self._bad = tuple(reason for reason in prepared if isinstance(reason, str))
        # Counted at the model that is compared first; the others have the reference for nothing.
        self._seconds = {"reference": time.perf_counter() - started}

    def compare(
        self,
        staged: StagedModel,
        loaded: LoadedModels,
        directory: pathlib.Path,
        on_image: Callable[[], None] = lambda: None,
    ) -> ShardResult:
        """Runs the gate on one of the variant's models.

        Args:
            staged: the model.
            loaded: models that this worker has loaded already.
            directory: its SavedModel, on this worker's disk.
            on_image: called after each image.

        Raises:
            GateError: it can't be compared at all.
        """
        started = time.perf_counter()
        model = loaded.of(staged, directory)
        gate = Gate(model, staged.checkpoint.class_names, staged.compute.dtype)
        begun = time.perf_counter()
        gate.compare(self._images, on_image)
        compared = time.perf_counter()
        seconds = {**self._seconds, "load": begun - started, "compare": compared - begun}
        self._seconds = {}
        measured = None
        if self._measures:
            measured = gate.measure(staged.model, self._images)
            seconds["measure"] = time.perf_counter() - compared
        return ShardResult(
            figures=gate.figures,
            images=len(self._images),
            attention_images=sum(image.attention for image in self._images),
            bad_images=self._bad,
            seconds=seconds,
            measured=measured,
            labelled=gate.labelled,
            correct=gate.correct,
        )
