"""What is made once for a whole run, whichever worker needs it first."""

import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """A folder that all workers of a run share. Not to be written to.

    Args:
        factory: of this worker's temporary folders.
        name: of the folder.
        make: fills it. Other workers wait meanwhile.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # What another worker failed at is begun anew.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
