"""The gate: a SavedModel, loaded back from disk, compared with the reference on sample images."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.compute import ComputeDtype
from export.memory import trim_memory
from serving_configs.tree.latency import LatencyProfile
from signatures import signatures_for

from ..elements import OutputDifference
from .attention import compare_call, run_self_attention
from .comparison import Differences
from .encoded import compare_classes, compare_encoded, example
from .interface import GateError
from .latency import BATCH, WarmupError, check_warmup, measure
from .loaded_model import LoadedModel, Outputs
from .mixed_batch import mixed_batch, rows_of_images
from .prepared_image import PreparedImage

Array = npt.NDArray[Any]


class Gate:
    """Compares a loaded SavedModel, and keeps the worst differences found so far.

    Args:
        model: the SavedModel.
        labels: names of the classes that `classify` answers with; None for the classes' numbers.
        dtype: what the products of its signatures are computed in; those of its call are float32.

    Attributes:
        labelled: images whose class is known, and that a classifier answered.
        correct: those of them whose best class is the right one.
    """

    def __init__(
        self,
        model: LoadedModel,
        labels: Sequence[str] | None = None,
        dtype: ComputeDtype = "float32",
    ) -> None:
        self._model = model
        self._head = model.head
        self._config = model.config
        self._labels = labels or [str(i) for i in range(model.config.num_classes)]
        self._differences = Differences(dtype)
        self._main = "logits" if model.head == "classifier" else "features"
        # Seconds of runs of the main signature with one image, which no other ran beside.
        self._timed: list[float] = []
        self.labelled = self.correct = 0

    @property
    def figures(self) -> tuple[OutputDifference, ...]:
        """The worst difference of every output compared so far."""
        return self._differences.figures

    def compare(
        self, images: Sequence[PreparedImage], on_image: Callable[[], None] = lambda: None
    ) -> None:
        """Compares the main output on every image, and all others on those with attention.

        The main output has two signatures that are alike. One of the images without attention runs
        the one that is named after it, the others run `serving_default`; what has not run then,
        runs on the first image with attention.

        Args:
            images: the images.
            on_image: called after each of them.

        Raises:
            GateError: a signature fails, or has an output of a wrong shape.
        """
        plain = [image for image in images if not image.attention]
        signatures = [self._main, *["serving_default"] * (len(plain) - 1)][: len(plain)]
        for image, signature in zip(plain, signatures, strict=True):
            self._count(image, self._compare_main(image, signature))
            on_image()
        alike = [name for name in (self._main, "serving_default") if name not in signatures]
        for image in images:
            if image.attention:
                self._count(image, self._compare_everything(image, alike))
                alike = []
                on_image()

    def measure(self, model: str, images: Sequence[PreparedImage]) -> LatencyProfile:
        """Measures the model for its batching, and tries the warm-up requests that follow from it.

        The batch of the measurement is compared with the reference.

        Args:
            model: its name.
            images: the first of them make the batch; where there are none, it is of zeros.

        Raises:
            GateError: a request fails; a server would refuse the version.
        """
        geometry, images = self._config.geometry, images[:BATCH]
        shape = (1, geometry.image_size, geometry.image_size, 3)
        pixels = [image.images for image in images] or [np.zeros(shape, np.float32)]
        # Made here, because the time and the memory of a run are measured.
        largest = mixed_batch(pixels, BATCH)
        answers: dict[int, Outputs] = {}

        def run(size: int) -> None:
            answers[size] = self._model.run("serving_default", images=largest[:size])

        measured = measure(run, geometry, self._timed)
        # Where a batch is too slow for a server, a request may have several images all the same.
        size = max(measured.batch, 2)
        if size not in answers:
            run(size)
        self._compare_batch(images, size, answers[size])
        try:
            check_warmup(self._model.signatures, model, self._head, geometry, measured)
        except WarmupError as error:
            raise GateError(str(error)) from error
        return measured

    def _count(self, image: PreparedImage, outputs: Mapping[str, Array]) -> None:
        """Counts the right answers of a classifier."""
        if image.label is not None and "logits" in outputs:
            self.labelled += 1
            self.correct += int(np.argmax(outputs["logits"])) == image.label

    def _compare_batch(
        self, images: Sequence[PreparedImage], size: int, outputs: Mapping[str, Array]
    ) -> None:
        for row, number in rows_of_images(len(images), size):
            image = images[number]
            answer = {name: values[row : row + 1] for name, values in outputs.items()}
            where = f"{image.name}, in a batch of {size}"
            self._differences.compare_all("serving_default", answer, image.expected_by_name, where)

    def _compare_main(self, image: PreparedImage, signature: str) -> Outputs:
        started = time.perf_counter()
        outputs = self._model.run(signature, images=image.images)
        if signature == "serving_default":
            self._timed.append(time.perf_counter() - started)
        self._differences.compare_all(signature, outputs, image.expected_by_name, image.name)
        return outputs

    def _compare_everything(self, image: PreparedImage, alike: Sequence[str]) -> Outputs:
        """Compares all that the model computes of an image.

        Args:
            image: the image.
            alike: signatures of the main output alone that have not been compared yet.

        Returns:
            The outputs of the signatures that take tensors. `class_attention` has the main output
            too.
        """
        # Before the call, which then has the memory for itself.
        blocks = run_self_attention(self._model, image, self._config)
        called = self._model.call(image.images)
        by_images = [
            name
            for name in self._taking("images")
            if name not in (self._main, "serving_default") or name in alike
        ]
        # The reference uses one core, and meanwhile the signatures have the other.
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            compared = executor.submit(
                compare_call,
                self._differences,
                image,
                called,
                blocks,
                self._config,
                self._main,
            )
            # The thread's alone now: it frees each block that it has compared.
            del called
            tensors = self._model.run_each(by_images, images=image.images)
            encoded = self._model.run_each(self._taking("image_bytes"), image_bytes=[image.encoded])
            examples = self._model.run_each(self._taking("inputs"), inputs=[example(image.encoded)])
            compared.result()
        # All blocks of the call are gone.
        trim_memory()
        served: Outputs = {}
        for name, outputs in tensors.items():
            self._differences.compare_all(name, outputs, image.expected_by_name, image.name)
            served |= outputs
        compare_encoded(self._differences, image, encoded, served)
        compare_classes(self._differences, image, examples, served, self._labels)
        return served

    def _taking(self, tensor: str) -> list[str]:
        """Signatures with this one input."""
        return [
            signature.name
            for signature in signatures_for(self._head, self._config.geometry).values()
            if [entry.name for entry in signature.inputs] == [tensor]
        ]
