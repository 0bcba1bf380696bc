"""The gate: a SavedModel, loaded back from disk, held to the reference over sample images."""

import concurrent.futures
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
import tensorflow as tf

from export.compute import ComputeDtype
from export.memory import garbage_collector_paused, trim_memory
from export.names import attention_name, ca_block_name, sa_block_name
from export.reference.forward_pass import ReferenceOutputs
from export.variants import CaiTConfig
from serving_configs.tree.latency import LatencyProfile
from signatures import Head, signatures_for
from signatures.functions import EXAMPLE_IMAGE_KEY

from ..elements import OutputDifference
from .comparison import CALL, Differences, check_shape
from .interface import GateError, check_interface, check_parameters
from .latency import BATCH, WarmupError, check_warmup, measure
from .mixed_batch import mirrored, mixed_batch, rows_of_images
from .prepared_image import PreparedImage

Array = npt.NDArray[Any]


class Gate:
    """A SavedModel loaded from disk, and the worst differences found so far.

    Args:
        directory: the SavedModel.
        head: which model it is.
        config: what it was built from.
        labels: names of the classes that `classify` answers with; None for the classes' numbers.
        trained: whether the weights were; a model has to be marked when they were not.
        dtype: what the products of its signatures are computed in; those of its call are float32.

    Attributes:
        labelled: images so far whose class is known, and that a classifier answered.
        correct: those of them whose best class is the right one.

    Raises:
        GateError: the SavedModel can't be loaded, its signatures are not those of the contract,
            or its parameters are not as many as the checkpoint's.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        head: Head,
        config: CaiTConfig,
        labels: Sequence[str] | None = None,
        trained: bool = True,
        dtype: ComputeDtype = "float32",
    ) -> None:
        self._head: Head = head
        self._config = config
        self._labels = labels or [str(i) for i in range(config.num_classes)]
        self._differences = Differences(dtype)
        self._main = "logits" if head == "classifier" else "features"
        # Signatures that have run.
        self._ran: set[str] = set()
        # Seconds of the main signature with one image, which no other ran beside.
        self._timed: list[float] = []
        self.labelled = self.correct = 0
        check_interface(directory, head, config, trained)
        try:
            with garbage_collector_paused():
                self._model = tf.saved_model.load(str(directory))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise GateError(f"the SavedModel cannot be loaded ({error})") from error
        check_parameters(self._model, head, config)

    @property
    def figures(self) -> tuple[OutputDifference, ...]:
        """The worst difference of every output compared so far."""
        return self._differences.figures

    def compare(self, image: PreparedImage) -> None:
        """Compares the main output on an image and, where it says so, everything else.

        The main output has several signatures. Of each at least one image is compared, and fewest
        signatures run where the images without attention come first.
        """
        if image.attention:
            outputs = self._compare_everything(image)
        elif self._main not in self._ran:
            outputs = self._compare_main(self._main, image)
        else:
            started = time.perf_counter()
            outputs = self._compare_main("serving_default", image)
            self._timed.append(time.perf_counter() - started)
        if image.label is not None and "logits" in outputs:
            self.labelled += 1
            self.correct += int(np.argmax(outputs["logits"])) == image.label

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
        answers: dict[int, dict[str, Array]] = {}

        def run(size: int) -> None:
            answers[size] = self._run("serving_default", images=largest[:size])

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

    def _compare_batch(
        self, images: Sequence[PreparedImage], size: int, outputs: Mapping[str, Array]
    ) -> None:
        for row, number in rows_of_images(len(images), size):
            image = images[number]
            answer = {name: values[row : row + 1] for name, values in outputs.items()}
            where = f"{image.name}, in a batch of {size}"
            self._differences.compare_all("serving_default", answer, _named(image.expected), where)

    def _compare_main(self, signature: str, image: PreparedImage) -> dict[str, Array]:
        outputs = self._run(signature, images=image.images)
        self._differences.compare_all(signature, outputs, _named(image.expected), image.name)
        return outputs

    def _run(self, signature: str, **inputs: object) -> dict[str, Array]:
        self._ran.add(signature)
        function = self._model.signatures[signature]
        try:
            outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        except tf.errors.OpError as error:
            raise GateError(f"{signature}: failed with {error.message}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _compare_everything(self, image: PreparedImage) -> dict[str, Array]:
        """All that the model can answer; what its tensor signatures did."""
        last = self._config.sa_blocks - 1
        sampled = sorted({0, last // 2, last})
        # Among them another image, so that one that gets something of its neighbour's is seen.
        stack = np.concatenate([mirrored(image.images), *[image.images] * len(sampled)])
        wanted = np.array([sampled[len(sampled) // 2], *sampled], np.int32)
        # Before the call, which then has the memory for itself.
        blocks = self._run("self_attention", images=stack, block=wanted)
        trim_memory()
        called = self._model(tf.constant(image.images))
        # The reference uses one core, and meanwhile the signatures have the other.
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            sampled_blocks = dict(zip(sampled, blocks["attention"][1:], strict=True))
            compared = executor.submit(self._compare_call, image, called, sampled_blocks)
            del called
            by_images = dict(self._run_each(("images",), images=image.images))
            by_bytes = dict(self._run_each(("image_bytes",), image_bytes=[image.encoded]))
            by_example = dict(self._run_each(("inputs",), inputs=[_example(image.encoded)]))
            compared.result()
        served: dict[str, Array] = {}
        for name, outputs in by_images.items():
            self._differences.compare_all(name, outputs, _named(image.expected), image.name)
            served |= outputs
        self._compare_encoded(image.name, by_bytes, by_example, served)
        return served

    def _compare_call(
        self, image: PreparedImage, called: tuple[Any, ...], sampled: Mapping[int, Array]
    ) -> None:
        """All blocks out of one call, and those of the `self_attention` signature."""
        main, self_attention, class_attention = called
        blocks = {attention_name(sa_block_name(i)): i for i in range(self._config.sa_blocks)}
        if self_attention.keys() != blocks.keys():
            wrong = ", ".join(sorted(self_attention.keys() ^ blocks.keys()))
            raise GateError(f"{CALL}: missing or unexpected outputs {wrong}")
        compared = [(CALL, name, blocks[name], np.asarray(self_attention[name])) for name in blocks]
        compared += [("self_attention", "attention", i, sampled[i][np.newaxis]) for i in sampled]
        size = self._config.geometry
        for signature, output, _, found in compared:
            shape = (1, size.heads, size.patches, size.patches)
            check_shape(signature, output, found, shape, image.name)
        differences = image.self_attention_differences([pair[2:] for pair in compared])
        for (signature, output, *_), difference in zip(compared, differences, strict=True):
            self._differences.record(signature, output, difference, image.name)
        outputs = {self._main: main.numpy()}
        outputs |= {name: tensor.numpy() for name, tensor in class_attention.items()}
        self._differences.compare_all(CALL, outputs, _named(image.expected), image.name)

    def _compare_encoded(
        self,
        image: str,
        by_bytes: Mapping[str, dict[str, Array]],
        by_example: Mapping[str, dict[str, Array]],
        served: Mapping[str, Array],
    ) -> None:
        """Against what the tensor signatures served, so that only preprocessing is between."""
        expected = dict(served)
        if self._head == "classifier":
            expected["probabilities"] = scipy.special.softmax(expected["logits"], axis=-1)
        for name, outputs in by_bytes.items():
            self._differences.compare_all(name, outputs, expected, image)
        for name, outputs in by_example.items():
            best = np.argsort(-expected["probabilities"][0], kind="stable")
            best = best[: outputs["scores"].shape[-1]]
            scores = expected["probabilities"][:, best]
            self._differences.compare(name, "scores", outputs["scores"], scores, image)
            wanted = [self._labels[i] for i in best]
            found = [label.decode() for label in outputs["classes"][0]]
            tie = self._differences.bounds(name).tie
            differ = sum(
                label != right and self._gap(expected["logits"][0], label, place) > tie
                for label, right, place in zip(found, wanted, best, strict=True)
            )
            self._differences.record(name, "classes", float(differ), image)

    def _taking(self, inputs: tuple[str, ...]) -> list[str]:
        """Signatures with exactly these inputs, but those of the main output that have run.

        `class_attention` answers with the main output too.
        """
        repeated = self._ran & {"serving_default", self._main}
        return [
            signature.name
            for signature in signatures_for(self._head, self._config.geometry).values()
            if tuple(tensor.name for tensor in signature.inputs) == inputs
            and signature.name not in repeated
        ]

    def _run_each(
        self, inputs: tuple[str, ...], /, **values: object
    ) -> Iterator[tuple[str, dict[str, Array]]]:
        """Runs the signatures with these inputs, two at a time.

        At its first run a signature's graph is optimised, on one core, for longer than it then
        runs.
        """
        names = self._taking(inputs)
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            yield from zip(
                names, executor.map(lambda name: self._run(name, **values), names), strict=True
            )

    def _gap(self, logits: Array, label: str, place: int) -> float:
        """How far the class of a label is from the one in its place; endless for no class."""
        # Two of ImageNet's classes have the same name.
        named = [i for i, name in enumerate(self._labels) if name == label]
        gaps = [abs(float(logits[i] - logits[place])) for i in named]
        return min(gaps, default=np.inf)


def _named(expected: ReferenceOutputs) -> dict[str, Array]:
    outputs: dict[str, Array] = {"features": expected.features}
    if expected.logits is not None:
        outputs["logits"] = expected.logits
    for block, attention in enumerate(expected.class_attention):
        outputs[attention_name(ca_block_name(block))] = attention
    return outputs


def _example(encoded: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={EXAMPLE_IMAGE_KEY: feature})
    serialized: bytes = tf.train.Example(features=features).SerializeToString()
    return serialized
