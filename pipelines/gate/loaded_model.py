"""A SavedModel, checked, loaded from disk and run."""

import concurrent.futures
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from export.memory import garbage_collector_paused, trim_memory
from export.variants import CaiTConfig
from signatures import Head

from ..runtime.heap import large_tensors_apart
from .interface import GateError, check_interface, check_parameters

Array = npt.NDArray[Any]
Outputs = dict[str, Array]
"""The outputs of a signature, by name."""


class LoadedModel:
    """A SavedModel with the signatures of the contract and the parameters of its checkpoint.

    Args:
        directory: the SavedModel.
        head: which model it is.
        config: what it was built from.
        trained: whether the weights were; a model has to be marked when they were not.

    Attributes:
        head: which model it is.
        config: what it was built from.

    Raises:
        GateError: it can't be loaded, its signatures are not those of the contract, or its
            parameters are not as many as the checkpoint's.
    """

    def __init__(
        self, directory: pathlib.Path, head: Head, config: CaiTConfig, trained: bool = True
    ) -> None:
        check_interface(directory, head, config, trained)
        try:
            with garbage_collector_paused():
                self._model = tf.saved_model.load(str(directory))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise GateError(f"the SavedModel cannot be loaded ({error})") from error
        check_parameters(self._model, head, config)
        # What reading the weights took, a quarter of their size.
        trim_memory()
        self.head: Head = head
        self.config = config

    @property
    def variables(self) -> list[tf.Variable]:
        """Its weights."""
        return list(self._model.variables)

    @property
    def signatures(self) -> Any:
        """The functions of the signatures, by name."""
        return self._model.signatures

    def call(self, images: Array) -> tuple[Any, ...]:
        """Calls the model as a layer of Keras does.

        Returns:
            The main output, and the attention of both kinds of block by name, all tensors.
        """
        # All blocks of the largest variant are 1.8 GiB.
        with large_tensors_apart():
            found: tuple[Any, ...] = self._model(tf.constant(images))
        return found

    def run(self, signature: str, **inputs: object) -> Outputs:
        """Runs a signature.

        Raises:
            GateError: it fails.
        """
        function = self._model.signatures[signature]
        try:
            outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        except tf.errors.OpError as error:
            raise GateError(f"{signature}: failed with {error.message}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def run_each(self, signatures: Sequence[str], /, **inputs: object) -> dict[str, Outputs]:
        """Runs several signatures on the same inputs, two at a time.

        At its first run a signature's graph is optimised, on one core, for longer than it then
        runs.

        Raises:
            GateError: one fails.
        """
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            outputs = list(executor.map(lambda name: self.run(name, **inputs), signatures))
        return dict(zip(signatures, outputs, strict=True))
