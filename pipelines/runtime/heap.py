"""Where the tensors of a worker are: in the C library's heap, which gives memory back.

oneDNN's allocator keeps all that it ever had, for tensors alone: after the largest model a worker
would hold four gigabytes for good. The C library by itself takes every large tensor from the
operating system and returns it at once, whose pages have to be filled with zeros each time: eight
images of 384 pixels take 1.4 times as long. So it is told to keep what was freed, until
`export.memory.release_memory` returns it.
"""

import contextlib
import os
from collections.abc import Iterator

from export.memory import c_function

ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
"""TensorFlow's variable that says whether tensors are in the C library's heap."""

# The parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
# No memory is returned by itself, no large piece is apart from the heap, and threads have one heap,
# so that none keeps another's.
_SETTINGS = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0, _ARENA_MAX: 1}
# Bytes from which a piece is apart from the heap where that is asked for, and glibc's own number of
# such pieces at most.
_LARGE = 4 << 20
_MOST_APART = 1 << 16


def keep_tensors_in_heap() -> None:
    """Sets the allocator of this process and of those that it starts, which have to call this too.

    To be called before TensorFlow loads. Changes nothing where the environment says otherwise, or
    the C library has no such settings.
    """
    set_parameter = c_function("mallopt")
    if set_parameter is not None and os.environ.setdefault(ALLOCATOR, "1") == "1":
        for parameter, value in _SETTINGS.items():
            set_parameter(parameter, value)


@contextlib.contextmanager
def large_tensors_apart() -> Iterator[None]:
    """Keeps what is made within the block out of the heap, if it is large.

    For tensors that are many, stay, and are freed one by one: each returns to the operating system
    then, and no gap is left beside it. Where tensors are not in the heap this changes nothing.
    """
    set_parameter = c_function("mallopt") if os.environ.get(ALLOCATOR) == "1" else None
    if set_parameter is None:
        yield
        return
    set_parameter(_MMAP_THRESHOLD, _LARGE)
    set_parameter(_MMAP_MAX, _MOST_APART)
    try:
        yield
    finally:
        set_parameter(_MMAP_MAX, 0)
