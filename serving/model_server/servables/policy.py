"""Which version of a model to close, unload or load next.

As TF Serving's `AvailabilityPreservingPolicy`: a new version is loaded before the old one is
unloaded, and an old one stays where the new one fails to load.
"""

import dataclasses
import enum
import pathlib
import threading
from collections.abc import Collection

from .servable import Servable


class State(enum.IntEnum):
    """`ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(eq=False)
class Version:
    """A version that is managed.

    Attributes:
        number: its number.
        path: its directory.
        aspired: whether it is to be served.
        state: its state.
        failed: whether its load failed.
        servable: the loaded version, while it is available or unloading.
        users: requests that run on it.
        withdrawn: set when it is no longer aspired, which ends the retries of its load.
    """

    number: int
    path: pathlib.Path
    aspired: bool = True
    state: State = State.START
    failed: bool = False
    servable: Servable | None = None
    users: int = 0
    withdrawn: threading.Event = dataclasses.field(default_factory=threading.Event)


def next_version(versions: Collection[Version]) -> Version | None:
    """The version to change next, by its state: close an unloading one, unload an available one or
    load a new one, in this order. None if there is nothing to do.
    """
    for version in versions:
        if version.state == State.UNLOADING and not version.users:
            return version
    aspired = [v for v in versions if v.aspired]
    dropped = [v for v in versions if v.state == State.AVAILABLE and not v.aspired]
    served = any(v.state == State.AVAILABLE for v in aspired)
    # The last available version stays until an aspired one is available.
    if dropped and (not aspired or served or len(dropped) > 1):
        return min(dropped, key=lambda version: version.number)
    new = [v for v in aspired if v.state == State.START]
    return max(new, key=lambda version: version.number, default=None)
