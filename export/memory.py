"""Giving memory back between models."""

import ctypes
import gc


def release_memory() -> None:
    """Frees what nothing refers to, and returns what is free to the operating system.

    Models are full of cycles, which Python collects late. What is freed stays with the process
    where the C library is glibc, in pieces that the next model's tensors do not fit.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return  # Another C library.
    trim(0)
