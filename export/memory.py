"""Returning memory between models, and pausing the garbage collector."""

import contextlib
import ctypes
import gc
from collections.abc import Iterator


def release_memory() -> None:
    """Collects garbage and returns free memory to the operating system.

    Models are full of reference cycles, which Python collects late.
    """
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Returns free memory to the operating system.

    glibc would keep it in the process, in pieces too small for the next model's tensors.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return  # Another C library.
    trim(0)


@contextlib.contextmanager
def garbage_collector_paused() -> Iterator[None]:
    """Pauses the garbage collector, for tracing and loading.

    These make millions of objects that stay, and collection would take a fifth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
