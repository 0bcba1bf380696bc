"""The page as a process."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.support.paths import REPOSITORY


@contextlib.contextmanager
def page_process(*flags: str, **environment: str) -> Iterator[tuple[str, Any]]:
    """A page as people start it -> its address and the process."""
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with subprocess.Popen(
        [sys.executable, "-m", "serving.page", "--port=0", *flags],
        cwd=REPOSITORY,
        env={**own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line.startswith("page: http://"), process.stderr and process.stderr.read()
            yield line.split()[1], process
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, ""), (process.returncode, errors)
