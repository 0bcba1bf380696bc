"""Loading Beam and TensorFlow without what they say of themselves while they load.

A wrong input is answered in one line, and progress is read by people: neither should be lost
between notes about optional libraries and processor features.
"""

import importlib
import logging
import os
import sys
import time

from signatures import quiet
from signatures.program import disk_full
from signatures.streams import take_messages

from .heap import keep_tensors_in_heap
from .processors import limit_tensorflow_threads


def load_tensorflow() -> None:
    """Imports TensorFlow for computing on the CPU: a GPU's lower precision would not be
    within the gate's tolerances.
    """
    limit_tensorflow_threads()
    keep_tensors_in_heap()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    quiet.load_tensorflow()
    # Beam's workers show notes, and the writer has long ones about names of inputs.
    logging.getLogger("absl").setLevel(logging.WARNING)


def load_beam() -> None:
    """Imports Beam without its warning that the clients of one cloud are not installed.

    What else is left out from then on: RunInference's warning at each load, that it does not know
    the model's memory, and what the command says by itself.
    """
    logging.getLogger().addFilter(_is_of_use)
    # It warns of every wheel, that it may have been built for another processor.
    logging.getLogger("apache_beam.runners.portability.stager").setLevel(logging.ERROR)
    for name in (
        "apache_beam.runners.common",
        "apache_beam.runners.worker.sdk_worker",
        "apache_beam.runners.portability.local_job_service",
    ):
        logging.getLogger(name).addFilter(_is_no_full_disk)
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name.endswith(".sdk_worker_main"):
        # A worker also prints the tracebacks that it logs and returns.
        take_messages(lambda text: _is_of_full_disk(text) or _is_of_killed_run(text))
    logging.disable(logging.WARNING)
    try:
        importlib.import_module("apache_beam")
    finally:
        logging.disable(logging.NOTSET)


def _is_of_full_disk(text: str) -> bool:
    return disk_full(RuntimeError(text))


_PARENT = os.getppid()
_END_SECONDS = 1.0
"""A process that is killed closes its connections so much before it has ended, at most."""


def _is_of_killed_run(text: str) -> bool:
    """Whether a worker says that its run is gone, which whoever killed that knows."""
    end = time.monotonic() + (_END_SECONDS if "StatusCode.UNAVAILABLE" in text else 0.0)
    while os.getppid() == _PARENT:
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)
    return True


def _is_no_full_disk(record: logging.LogRecord) -> bool:
    """Drops the traceback of a step that a full disk ends; the command says it in one line."""
    error = record.exc_info[1] if record.exc_info else None
    # Some of Beam's have the traceback in their text.
    return not disk_full(error or RuntimeError(record.getMessage()))


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether the command does not say it by itself, as it does what a job failed of in Java."""
    told = record.args if record.msg == "%s" and isinstance(record.args, tuple) else ()
    text = str(told[0] if told else record.msg)
    return not text.startswith(("Resource module is not available", "java.", "org.apache.flink."))
