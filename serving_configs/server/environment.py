"""The environment of a server's process, which says where tensors are.

With oneDNN they are in the memory of its own allocator by default. It keeps all that it ever had,
in pieces whose places differ from one process to the next: one takes up to a fifth longer for a
request than another. In the C library's heap, which is told to keep what was freed, all are about
as fast as the fastest of these. `docs/tuning.md` has the measurement.
"""

# More than one of the pieces of 64 MiB that the heaps of threads consist of. Else the last is
# returned as soon as nothing is in it, and filled with zeros for the next tensor. The first heap
# grows by as much more than it needs: of addresses, not of memory.
_AHEAD = 128 << 20
# With so much free memory at its end, the first heap returns all of it but `_AHEAD`.
_KEPT = _AHEAD + (256 << 20)

SERVER_ENVIRONMENT = {
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
    # No tensor comes from the operating system by itself, which would fill it with zeros each time:
    # none but those of more than 64 MiB that a thread's heap has no room for.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(_AHEAD),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
    # Heaps. By default there are eight for each processor of a node, however few a pod has, and no
    # thread of one uses what is free in another.
    "MALLOC_ARENA_MAX": "4",
}
"""Variables of TensorFlow and of glibc, with the names that glibc gives them."""
