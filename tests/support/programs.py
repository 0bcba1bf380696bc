"""Programs that some tests need, and that the lock file cannot install."""

import os
import shutil

import pytest

REQUIRED = "CAIT_REQUIRED_PROGRAMS"
"""The environment's names of programs, with blanks between, whose tests fail without them."""


def require_program(*names: str) -> str:
    """The path of a program.

    Args:
        names: what it is called, by one system or another. The first is the one for `REQUIRED`.

    Raises:
        pytest.skip.Exception: it is not there; the end of the run says how often, and why.
        pytest.fail.Exception: it is not there, and the environment says that it has to be.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"{' or '.join(names)} is not on the PATH"
    if names[0] in os.environ.get(REQUIRED, "").split():
        pytest.fail(f"{reason}, and {REQUIRED} names it", pytrace=False)
    pytest.skip(reason)
