"""Memory between models: giving it back, and what Python does of itself."""

import contextlib
import ctypes
import gc
from collections.abc import Iterator


def release_memory() -> None:
    """Frees what nothing refers to, and returns what is free to the operating system.

    Models are full of cycles, which Python collects late.
    """
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Returns what is free to the operating system.

    Where the C library is glibc it would stay with the process, in pieces that the next model's
    tensors do not fit.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return  # Another C library.
    trim(0)


@contextlib.contextmanager
def garbage_collector_paused() -> Iterator[None]:
    """Tracing and loading make millions of objects that stay: collection would be a fifth of the
    time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
