"""From a version's directory to what serves requests: load, put in front of it, warm up."""

import pathlib
from collections.abc import Callable

from .servable import Loader, Servable, SessionSettings, load_servable
from .warmup import warm_up

Wrapper = Callable[[Servable, pathlib.Path], Servable]
"""Puts something in front of a version that was loaded from this directory, such as batching."""


def version_loader(
    settings: SessionSettings, enable_warmup: bool, wrapper: Wrapper | None = None
) -> Loader:
    """The loader of a server.

    Args:
        settings: of the sessions.
        enable_warmup: runs a version's warm-up requests before it is available; they go through
            what `wrapper` puts in front, as a client's do.
        wrapper: closes what it wraps when it is closed.
    """

    def load(directory: pathlib.Path) -> Servable:
        servable: Servable = load_servable(directory, settings)
        try:
            if wrapper is not None:
                servable = wrapper(servable, directory)
            if enable_warmup:
                warm_up(servable, directory)
        except BaseException:
            servable.close()
            raise
        return servable

    return load
