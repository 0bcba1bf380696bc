"""Where the tensors of a worker are: in the C library's heap, which gives memory back.

oneDNN's allocator keeps all that it ever had, for tensors alone: after the largest model a worker
would hold four gigabytes for good. The C library by itself takes every large tensor from the
operating system and returns it at once, whose pages have to be filled with zeros each time: eight
images of 384 pixels take 1.4 times as long. So it is told to keep what was freed, until
`export.memory.release_memory` returns it.
"""

import ctypes
import os

ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
"""TensorFlow's variable that says whether tensors are in the C library's heap."""

# The parameters of glibc's mallopt, and their values here: no memory is returned by itself, no
# large piece comes from elsewhere, and threads have one heap, so that none keeps another's.
_SETTINGS = {-1: 2**31 - 1, -4: 0, -8: 1}


def keep_tensors_in_heap() -> None:
    """Sets the allocator of this process and of those that it starts, which have to call this too.

    To be called before TensorFlow loads. Changes nothing where the environment says otherwise, or
    the C library has no such settings.
    """
    try:
        set_parameter = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # Another C library.
    if os.environ.setdefault(ALLOCATOR, "1") == "1":
        for parameter, value in _SETTINGS.items():
            set_parameter(parameter, value)
