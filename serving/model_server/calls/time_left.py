"""The time that a call has left when it reaches the model."""

import time
from collections.abc import Callable


def time_left(timeout: float | None) -> Callable[[], float | None]:
    """Counts down the time of a call.

    Reading the inputs of a large request takes time of the call too.

    Args:
        timeout: seconds left to the call now; None is no limit.

    Returns:
        A function that returns the seconds left when it is called, which may be less than 0.
    """
    if timeout is None:
        return lambda: None
    end = time.monotonic() + timeout
    return lambda: end - time.monotonic()
