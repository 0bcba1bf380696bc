"""Loading Beam and TensorFlow without what they say of themselves while they load.

A wrong input is answered in one line, and progress is read by people: neither should be lost
between notes about optional libraries and processor features.
"""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator

from .processors import limit_tensorflow_threads


def load_tensorflow() -> None:
    """Imports TensorFlow for computing on the CPU: a GPU's lower precision would not hold to the
    gate's bounds.
    """
    limit_tensorflow_threads()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Not even its errors: those that matter are raised, and the others are about this processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _native_stderr_hidden():
        tensorflow = importlib.import_module("tensorflow")
        # The devices are set up by the first operation, with notes of their own.
        tensorflow.constant(0)
    # The writer of Keras models warns that it found no compiled metrics in a model without any.
    tensorflow.get_logger().setLevel("ERROR")
    # Beam's workers show notes, and the writer has long ones about names of inputs.
    logging.getLogger("absl").setLevel(logging.WARNING)


def load_beam() -> None:
    """Imports Beam without its warning that the clients of one cloud are not installed, and
    without the one that a model's memory can't be told, which RunInference gives at each load.
    """
    logging.getLogger().addFilter(_is_of_use)
    logging.disable(logging.WARNING)
    try:
        importlib.import_module("apache_beam")
    finally:
        logging.disable(logging.NOTSET)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Resource module is not available")


@contextlib.contextmanager
def _native_stderr_hidden() -> Iterator[None]:
    """Hides what native code writes, which no setting of Python's logging reaches."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(null)
        os.close(saved)
