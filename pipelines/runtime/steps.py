"""What the steps of both jobs have in common."""

import threading
from typing import Any, Generic, Protocol, TypeVar

import apache_beam as beam

from .files import set_filesystem_options

COUNTERS = "cait"
"""The namespace of the steps' counters and distributions."""

ONE_MODEL = threading.Lock()
"""Held by a step that has a model in memory. An engine may run several steps of a worker at once,
in threads; a worker has the memory for one model, and Keras's state is that of the process."""


class Context(Protocol):
    """What every step of a run is given."""

    @property
    def filesystem(self) -> Any:
        """Beam's options for the filesystems of the run's addresses."""


ContextT = TypeVar("ContextT", bound=Context)


class StepFn(beam.DoFn, Generic[ContextT]):
    """A step that opens the store."""

    def __init__(self, context: ContextT) -> None:
        self._context = context

    def setup(self) -> None:
        set_filesystem_options(self._context.filesystem)
