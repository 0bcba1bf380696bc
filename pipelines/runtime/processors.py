"""How TensorFlow uses the processors of a worker."""

import os

# The signatures take an image through a block in as many streams.
_STREAMS = 2


def limit_tensorflow_threads(workers: int = 1) -> None:
    """Sets TensorFlow's numbers of threads, for this process and those that it starts.

    By default every operation is shared among all threads, and waits until one of them is done with
    an operation of the other stream. Of several workers each may have an operation on every
    processor: one of them is the last to end. What is set in the environment stays. To be called
    before TensorFlow makes its threads; later it changes nothing here.

    Args:
        workers: processes that compute at the same time.
    """
    processors = len(os.sched_getaffinity(0))
    within = max(1, processors // (_STREAMS * workers))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(within))
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(processors))
