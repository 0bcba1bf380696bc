"""Our code as a wheel."""

import pathlib
import shutil
import subprocess
import sys

from tests.support.paths import PACKAGES, REPOSITORY


def build_wheel(source: pathlib.Path) -> pathlib.Path:
    """The wheel that `make wheel` builds of the checkout's code.

    Args:
        source: an empty folder for a copy of the checkout: the checkout's own `build` stays.
    """
    for name in ("pyproject.toml", "LICENSE", "Makefile", "requirements.lock", "cait.py"):
        shutil.copy(REPOSITORY / name, source)
    for folder in (*PACKAGES, "benchmarks", "tests/data"):
        ignored = shutil.ignore_patterns("__pycache__", "*.pth")
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    # With what is installed here, and nothing installed anew.
    made = [
        "make",
        "--no-print-directory",
        "wheel",
        f"VENV={sys.prefix}",
        f"--old-file={sys.prefix}/installed",
    ]
    done = subprocess.run(made, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "build" / "wheels").iterdir()
    assert done.stdout.splitlines()[-1] == str(wheel)
    return wheel
