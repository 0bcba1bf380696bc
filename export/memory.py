"""Returning memory between models, and pausing the garbage collector."""

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Any


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
    trim = c_function("malloc_trim")
    if trim is not None:
        trim(0)


def c_function(name: str) -> Any:
    """A function of the C library's allocator by its name; None in a library that lacks it."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None  # Another C library than glibc.


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
