"""What Beam says of itself and is not shown."""

import logging
import subprocess
import sys

import pytest

from pipelines.runtime.quiet import load_beam
from tests.support.paths import REPOSITORY

# As Beam logs what a portable engine says.
STACK = (
    "java.lang.Exception: lost\n\tat org.apache.flink.runtime.taskmanager.Task.run(Task.java:566)"
)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (STACK, False),
        ("org.apache.flink.runtime.JobException: Recovery is suppressed", False),
        ("a worker has no memory left", True),
    ],
)
def test_a_stack_of_java_s_is_left_out(
    message: str, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    load_beam()
    caplog.set_level(logging.ERROR)
    logging.log(logging.ERROR, "%s", message)
    assert bool(caplog.records) == shown


def test_a_wheel_for_workers_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    load_beam()
    caplog.set_level(logging.WARNING)
    logging.getLogger("apache_beam.runners.portability.stager").warning("must be compatible")
    assert caplog.records == []


LOAD = """
import threading
from pipelines.runtime.quiet import load_tensorflow

failed = []

def setup():
    try:
        load_tensorflow()
    except Exception as error:
        failed.append(error)

threads = [threading.Thread(target=setup) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""


@pytest.mark.slow
def test_steps_that_load_tensorflow_at_once_all_have_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
