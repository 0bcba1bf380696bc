"""Tests that need a program: skipped aloud, or failed where the machine is to have it."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import REPOSITORY
from tests.support.programs import REQUIRED, require_program

NEEDS = """
import pytest

@pytest.fixture
def dear():
    raise AssertionError("made for nothing")

@pytest.mark.parametrize("number", range(3))
@pytest.mark.needs_program("no-such-browser", "nor-this")
def test_of_a_browser(number, dear):
    pass

@pytest.mark.needs_program("no-such-shell", "sh")
def test_of_a_shell():
    pass
"""


def test_the_first_that_is_there_is_taken() -> None:
    assert require_program("no-such-shell", "sh", "bash") == shutil.which("sh")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "required"),
    [((), ""), (("--numprocesses=2",), ""), ((), "chromium no-such-browser")],
    ids=["skipped", "skipped by workers", "required"],
)
def test_the_end_of_a_run_says_what_was_missing(
    tmp_path: pathlib.Path, flags: tuple[str, ...], required: str
) -> None:
    test = tmp_path / "test_needs.py"
    test.write_text(NEEDS)
    # This run may be a worker's.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", *flags, str(test)),
        ],
        cwd=REPOSITORY,
        env={**outer, REQUIRED: required},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.splitlines()[-8:]
    reason = "no-such-browser or nor-this is not on the PATH"
    if not required:
        assert done.returncode == 0, done.stdout
        (line,) = (line for line in last if line.startswith("SKIPPED"))
        assert line.startswith("SKIPPED [3] ")
        assert line.endswith(f": {reason}")
        assert "1 passed, 3 skipped" in last[-1]
    else:
        assert done.returncode == 1, done.stdout
        lines = [line for line in last if line.startswith("ERROR")]
        assert len(lines) == 3
        assert f"\n{reason}, and {REQUIRED} names it\n" in done.stdout
        assert "1 passed, 3 errors" in last[-1]


@pytest.mark.parametrize(
    ("installed", "user", "steps"),
    [
        ("make apt-get chromium", 0, []),
        (
            "make apt-get",
            0,
            [
                "apt-get update --quiet=2",
                "apt-get install --yes --quiet=2 --no-install-recommends --option "
                "DPkg::Lock::Timeout=300 --option Dpkg::Use-Pty=0 chromium",
            ],
        ),
        # It may not, or cannot: the tests say then what is missing.
        ("make apt-get", 1000, []),
        ("make", 0, []),
    ],
)
def test_what_ci_installs(
    tmp_path: pathlib.Path, installed: str, user: int, steps: list[str]
) -> None:
    said = tmp_path / "said"
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    stubs = {name: f'echo "{name} $* {{${REQUIRED}}}" >> {said}' for name in installed.split()}
    for name, content in {**stubs, "id": f"echo {user}"}.items():
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    run = [str(tmp_path / "bash"), str(REPOSITORY / ".ci" / "run")]
    subprocess.run(run, env={"PATH": str(tmp_path)}, check=True)
    assert said.read_text().splitlines() == [
        *(f"{step} {{}}" for step in steps),
        "make test {chromium unshare java mvn}",
        "make test-cluster {chromium unshare java mvn}",
    ]
