"""Flags of Beam's filesystems, of which a process has one set: S3's address and credentials."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def filesystem_flags_kept() -> Iterator[None]:
    """Sets them back at the end to what they were at the start."""
    before = _flags()
    try:
        yield
    finally:
        if _flags() is not before:
            _filesystems().set_options(before)


def _flags() -> Any:
    return _filesystems() and _filesystems()._pipeline_options


def _filesystems() -> Any:
    # Most tests have no use for Beam, so that it is not imported here.
    module = sys.modules.get("apache_beam.io.filesystems")
    return module and module.FileSystems
