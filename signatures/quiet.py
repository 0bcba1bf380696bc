"""Loading TensorFlow without the notes that it prints while it loads.

A command prints one line about what it does, or about what is wrong. Notes about optional libraries
and processor features would bury that line.
"""

import contextlib
import gc
import importlib
import os
import sys
import threading
from collections.abc import Iterator

from .flags import LOG_LEVEL
from .program import Interrupted

# Errors that matter are raised. Those that native code logs are about this processor.
_FATAL_ALONE = "3"

# Steps of a worker may load it at the same time, and the second would get a half of it.
_LOADING = threading.Lock()


def load_tensorflow(set_up_devices: bool = True) -> None:
    """Imports TensorFlow, whose native code logs nothing from now on but what ends the process.

    TF_CPP_MIN_LOG_LEVEL in the environment overrides that. With 0, which `--verbose` sets, all that
    is logged while TensorFlow loads is shown, too.

    Args:
        set_up_devices: sets up the devices too, which otherwise the first operation does, with
            notes of its own. False for a program that needs TensorFlow's messages alone.
    """
    shown = os.environ.setdefault(LOG_LEVEL, _FATAL_ALONE) == "0"
    with _LOADING, contextlib.nullcontext() if shown else hidden_native_stderr():
        if "tensorflow" not in sys.modules:
            with _without_keras_3():
                importlib.import_module("tensorflow")
            # Half a million objects that stay: every later collection would go through them.
            gc.freeze()
        tensorflow = sys.modules["tensorflow"]
        if set_up_devices:
            tensorflow.constant(0)
            # The loader of sessions warns that it is deprecated, the writer of Keras models that a
            # model without metrics has none.
            tensorflow.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _without_keras_3() -> Iterator[None]:
    """Keeps TensorFlow from loading Keras 3 and its drawings: a sixth of the time for nothing.

    It does so where the environment has this name, which other programs are not to inherit.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TF_USE_LEGACY_KERAS"]
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


@contextlib.contextmanager
def hidden_native_stderr() -> Iterator[None]:
    """Hides what native code writes, which no setting of Python's logging reaches."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    shown_again = True
    try:
        os.dup2(null, 2)
        yield
    except Interrupted:
        # What threads that are still at work say of the end stays hidden.
        shown_again = False
        raise
    finally:
        if shown_again:
            os.dup2(saved, 2)
        os.close(null)
        os.close(saved)
