"""Loading TensorFlow without what it says of itself while it loads.

The programs say in one line what they do, and in one line what is wrong; neither should be lost
between notes about optional libraries and processor features.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


def load_messages() -> None:
    """Imports TensorFlow, as the messages of its API do, and leaves its devices alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with native_stderr_hidden():
        importlib.import_module("tensorflow")


def load_tensorflow() -> None:
    """Imports TensorFlow and sets up its devices."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with native_stderr_hidden():
        tensorflow = importlib.import_module("tensorflow")
        # The devices are set up by the first operation, with notes of their own.
        tensorflow.constant(0)
    # The loader of sessions warns that it is the old one.
    tensorflow.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def native_stderr_hidden() -> Iterator[None]:
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
