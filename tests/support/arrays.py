"""Images, and the types of what tests pass around."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from export.checkpoints.random_weights import seeded_normal

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]
Replies = dict[str, npt.NDArray[Any]]
Serve = Callable[..., Replies]

IMAGES = seeded_normal("saved model", (4, 32, 32, 3))
"""Four images for the tiny model."""
