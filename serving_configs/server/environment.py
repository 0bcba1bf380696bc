"""The environment of a server's process, which says where tensors are.

By default they are in the memory of oneDNN's allocator. It keeps all that it ever had, in pieces
whose places differ from one process to the next: one takes up to a fifth longer for a request than
another. In the C library's heap every process is as fast as the fastest of these, provided that the
heap keeps what was freed: large tensors would else be taken from the operating system each time.
`docs/tuning.md` has the measurement.
"""

# What a thread's own heap can hold at most. Larger tensors come from the operating system.
_LARGEST_TENSOR = 64 << 20
# What each heap keeps for the next request.
_KEPT = 256 << 20

SERVER_ENVIRONMENT = {
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_LARGEST_TENSOR),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
}
"""Variables of TensorFlow and of glibc; those of glibc end with an underscore."""
