"""Loads a version for serving: its SavedModel, wrappers such as batching, and the warm-up."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from serving_configs.trust.check import signed_version_problems
from serving_configs.trust.keys import PublicKey
from signatures.warmup import REQUESTS

from ..errors import failed_precondition
from .servables.checked import CheckedServable
from .servables.servable import Loader, Servable, SessionSettings, load_servable
from .warmup import warm_up

Wrapper = Callable[[Servable, pathlib.Path], Servable]
"""Wraps a version loaded from a directory, for example with batching."""


class LoadObserver(Protocol):
    """Called after every load and warm-up with the directory, the error, and the seconds."""

    def load(self, directory: str, error: Exception | None, seconds: float) -> None:
        """A SavedModel was loaded or failed to load."""

    def warm_up(self, directory: str, error: Exception | None, seconds: float) -> None:
        """The warm-up requests of a version were run or failed."""


def version_loader(
    settings: SessionSettings,
    enable_warmup: bool,
    wrapper: Wrapper | None = None,
    observer: LoadObserver | None = None,
    keys: Sequence[PublicKey] = (),
) -> Loader:
    """The loader of a server.

    Args:
        settings: settings of the sessions.
        enable_warmup: runs a version's warm-up requests, through the wrapper, before the version
            is available.
        wrapper: wraps each version; closing the wrapper closes the version.
        observer: called after every load and warm-up.
        keys: a version that none of them signed, or that is not as it was signed, is not loaded;
            none checks nothing.
    """

    def load(directory: pathlib.Path) -> Servable:
        with _timed(directory, observer.load if observer is not None else None):
            if keys:
                _require_signature(directory, keys)
            servable: Servable = load_servable(directory, settings)
        try:
            if wrapper is not None:
                servable = wrapper(servable, directory)
            servable = CheckedServable(servable)
            if enable_warmup and (directory / REQUESTS).is_file():
                with _timed(directory, observer.warm_up if observer is not None else None):
                    warm_up(servable, directory)
        except BaseException:
            servable.close()
            raise
        return servable

    return load


def _require_signature(directory: pathlib.Path, keys: Sequence[PublicKey]) -> None:
    for problem in signed_version_problems(directory, keys):
        raise failed_precondition(f"{directory}: {problem}; not loaded, by --require_signature")


@contextlib.contextmanager
def _timed(
    directory: pathlib.Path, report: Callable[[str, Exception | None, float], None] | None
) -> Iterator[None]:
    start, error = time.perf_counter(), None
    try:
        yield
    except Exception as failure:
        error = failure
        raise
    finally:
        if report is not None:
            report(str(directory), error, time.perf_counter() - start)
